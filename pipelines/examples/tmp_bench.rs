use pipelines::models::*;
use pipelines::weights::LoadOptions;
use tch::*;
fn main() {
    let dir = std::env::args().nth(1).unwrap();
    let lora = std::env::args().nth(2).is_some();
    let mut unet = UNet2DConditionModel::load(std::path::Path::new(&dir), &LoadOptions::cpu()).unwrap();
    let c = Conditioning::of_prompt(Tensor::randn([2, 77, 768], kind::FLOAT_CPU));
    let x = Tensor::randn([2, 4, 32, 32], kind::FLOAT_CPU);
    let t = Tensor::from_slice(&[5i64, 600]);
    let mut set = None;
    let params: Vec<(String, Tensor)> = if lora {
        let l = pipelines::lora::LoraWeights::init(&unet, 8, 8.0, &["to_q", "to_k", "to_v", "to_out.0"].map(String::from), &|_, s| Tensor::randn(s, kind::FLOAT_CPU)).unwrap();
        set = Some(l.attach(&mut unet).unwrap());
        l.trainable()
    } else { unet.named_parameters() };
    let params: Vec<Tensor> = params.into_iter().map(|(_, t)| t.set_requires_grad(true)).collect();
    for _ in 0..4 {
        let s = std::time::Instant::now();
        let y = unet.forward(&x, &t, &c, set).unwrap();
        let f = s.elapsed().as_secs_f64();
        let _g = Tensor::run_backward(&[y.square().mean(Kind::Float)], &params, false, false);
        println!("rust forward {f:.2} both {:.2}", s.elapsed().as_secs_f64());
    }
}
