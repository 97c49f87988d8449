//! The loader, by which a network reads its tensors from a store.

use crate::error::{Error, Result, TensorProblems};
use crate::weights::options::{LoadOptions, not_finite};
use crate::weights::store::WeightStore;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use tch::{Device, Kind, Tensor};

/// Parameter names of a network with their shapes, sorted by name.
pub type ParameterShapes = Vec<(String, Vec<i64>)>;

/// Returns tensors by path and records the requests. A problem does not stop the construction of a network: an empty
/// tensor takes the place, and `finish` refuses the whole with one list.
#[derive(Clone)]
pub struct Loader {
    shared: Rc<Shared>,
    prefix: String,
}

struct Shared {
    /// None: only names and shapes are recorded.
    store: Option<(WeightStore, LoadOptions)>,
    taken: RefCell<BTreeMap<String, Tensor>>,
    shapes: RefCell<BTreeMap<String, Vec<i64>>>,
    problems: RefCell<TensorProblems>,
    failure: RefCell<Option<Error>>,
}

impl Loader {
    pub fn new(store: WeightStore, options: &LoadOptions) -> Self {
        Self::over(Some((store, *options)))
    }

    /// A loader without a file: `shapes` lists a network's requests afterwards.
    pub fn describing() -> Self {
        Self::over(None)
    }

    fn over(store: Option<(WeightStore, LoadOptions)>) -> Self {
        let path = store.as_ref().map(|(store, _)| store.path().to_path_buf()).unwrap_or_default();
        let shared = Shared {
            store,
            taken: RefCell::default(),
            shapes: RefCell::default(),
            problems: RefCell::new(TensorProblems { path, ..TensorProblems::default() }),
            failure: RefCell::default(),
        };
        Self { shared: Rc::new(shared), prefix: String::new() }
    }

    /// The loader of a part: `sub("down_blocks.0")`.
    pub fn sub(&self, part: &str) -> Self {
        Self { shared: self.shared.clone(), prefix: self.path(part) }
    }

    /// The full name of a part below this loader.
    pub fn path(&self, part: &str) -> String {
        if self.prefix.is_empty() { part.to_string() } else { format!("{}.{part}", self.prefix) }
    }

    /// The full name of this loader's own part.
    pub fn own_path(&self) -> &str {
        &self.prefix
    }

    /// Reads one tensor: a leaf on the device and in the kind of the options.
    pub fn tensor(&self, name: &str, shape: &[i64]) -> Tensor {
        let name = self.path(name);
        let tensor = self.read(&name, shape).unwrap_or_else(|| Tensor::empty([0], (Kind::Float, Device::Cpu)));
        self.shared.shapes.borrow_mut().insert(name.clone(), shape.to_vec());
        self.shared.taken.borrow_mut().insert(name, tensor.shallow_clone());
        tensor
    }

    fn read(&self, name: &str, shape: &[i64]) -> Option<Tensor> {
        let (store, options) = self.shared.store.as_ref()?;
        let mut problems = self.shared.problems.borrow_mut();
        let Some(found) = store.shape(name) else {
            problems.missing.push(name.to_string());
            return None;
        };
        if !same_matrix(&found, shape) {
            problems.misshapen.push((name.to_string(), shape.to_vec(), found));
            return None;
        }
        if let Some(dtype) = store.not_floating(name) {
            problems.untyped.push((name.to_string(), dtype));
            return None;
        }
        let tensor = store
            .tensor(name)
            .and_then(|t| Ok(t.f_view(shape)?.f_to_device(options.device)?.f_to_kind(options.kind)?));
        tensor.map_err(|e| self.shared.failure.borrow_mut().get_or_insert(e).to_string()).ok()
    }

    /// All loaded tensors by name; an error if any was missing, misshapen, not finite, or left over in the file.
    pub fn finish(self) -> Result<BTreeMap<String, Tensor>> {
        if let Some(failure) = self.shared.failure.borrow_mut().take() {
            return Err(failure);
        }
        let taken = self.shared.taken.take();
        let mut problems = self.shared.problems.take();
        if let Some((store, _)) = &self.shared.store {
            let asked: BTreeSet<&str> = taken.keys().map(String::as_str).collect();
            problems.extra = store.names().filter(|name| !asked.contains(name)).map(String::from).collect();
            problems.not_finite = not_finite(&taken)?;
        }
        if problems.is_empty() { Ok(taken) } else { Err(Error::Tensors(Box::new(problems))) }
    }

    /// The requests so far.
    pub fn shapes(&self) -> ParameterShapes {
        self.shared.shapes.borrow().iter().map(|(name, shape)| (name.clone(), shape.clone())).collect()
    }
}

/// Refuses a store that does not hold exactly the parameters of a network, with the list of differences, without
/// reading a tensor.
pub fn check_store(store: &WeightStore, shapes: &ParameterShapes) -> Result<()> {
    let mut problems = TensorProblems { path: store.path().to_path_buf(), ..TensorProblems::default() };
    for (name, shape) in shapes {
        match store.shape(name) {
            None => problems.missing.push(name.clone()),
            Some(found) if !same_matrix(&found, shape) => problems.misshapen.push((name.clone(), shape.clone(), found)),
            Some(_) => problems.untyped.extend(store.not_floating(name).map(|dtype| (name.clone(), dtype))),
        }
    }
    let wanted: BTreeSet<&str> = shapes.iter().map(|(name, _)| name.as_str()).collect();
    problems.extra = store.names().filter(|name| !wanted.contains(name)).map(String::from).collect();
    if problems.is_empty() { Ok(()) } else { Err(Error::Tensors(Box::new(problems))) }
}

/// Equality of shapes, where a 1x1 convolution equals its matrix: older VAE files store attention so.
fn same_matrix(found: &[i64], wanted: &[i64]) -> bool {
    let matrix = |shape: &[i64]| match shape {
        [out, input, 1, 1] => vec![*out, *input],
        other => other.to_vec(),
    };
    found == wanted || (wanted.len() == 2 && matrix(found) == wanted)
}
