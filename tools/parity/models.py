"""Networks and LoRA files of this program against diffusers, transformers and PEFT, with all gradients in full.

    .python/python tools/parity/models.py [CASE..]

Cases are the configurations beside the golden files. Fails where an output differs by more than 1e-4 or a gradient by
more than 1e-3, ||a - b|| / max(||b||, 1e-4 x the whole gradient's norm): a gradient that is 0 in theory is rounding.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "pipelines/tests/golden"))

import torch  # noqa: E402
from diffusers import StableDiffusionPipeline, UNet2DConditionModel  # noqa: E402
from diffusers.loaders import StableDiffusionLoraLoaderMixin  # noqa: E402
from networks import build, cases, draw, gradients, inputs, outputs, targets  # noqa: E402
from peft import LoraConfig, get_peft_model_state_dict  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from transformers.utils import logging  # noqa: E402

logging.disable_progress_bar()
OUTPUT, GRADIENT = 1e-4, 1e-3
failures = []


def dump(*arguments):
    """Runs the program's side: examples/parity_dump.rs."""
    program = ROOT / "target/debug/examples/parity_dump"
    subprocess.run([program, *map(str, arguments)], check=True)


def report(case, output, gradient, worst):
    verdict = "ok" if output < OUTPUT and gradient < GRADIENT else "FAILED"
    print(f"{case:24} outputs {output:.2e}  gradients {gradient:.2e} ({worst})  {verdict}", flush=True)
    if verdict != "ok":
        failures.append(case)


def compare(case, found, made, grads):
    """Our file against Python's outputs and gradients."""
    output = max((found[f"output.{name}"] - value).abs().max().item() for name, value in made.items())
    assert {f"gradient.{name}" for name in grads} == {name for name in found if name.startswith("gradient.")}
    whole = torch.stack([g.double().norm() for g in grads.values()]).norm().item()
    errors = {}
    for name, theirs in grads.items():
        ours, theirs = found[f"gradient.{name}"].double(), theirs.double()
        errors[name] = (ours - theirs).norm().item() / max(theirs.norm().item(), 1e-4 * whole)
    worst = max(errors, key=errors.get)
    report(case, output, errors[worst], worst)


def write_inputs(path, given, wanted):
    tensors = {f"input.{name}": value for name, value in given.items()}
    save_file(tensors | {f"target.{name}": value for name, value in wanted.items()}, path)


def network(case, kind, config, folder):
    """One component saved by Python, loaded and differentiated by both."""
    model = build(kind, config)
    model.save_pretrained(folder / case, safe_serialization=True)
    given = inputs(kind, config)
    made = outputs(kind, model, given)
    wanted = targets(made)
    write_inputs(folder / "inputs.safetensors", given, wanted)
    dump(kind, folder / case, folder / "inputs.safetensors", folder / "out.safetensors")
    compare(case, load_file(folder / "out.safetensors"), made, gradients(kind, model, made, wanted))


def lora(config, folder, alpha):
    """A LoRA saved by diffusers is read here; what is written here is read by diffusers, in both namings."""
    case = f"lora alpha {alpha}/4"
    model = build("unet", config)
    model.save_pretrained(folder / "base", safe_serialization=True)
    linear = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"]
    model.add_adapter(LoraConfig(r=4, lora_alpha=alpha, target_modules=linear))
    trainable = {name: p for name, p in model.named_parameters() if "lora_" in name}
    with torch.no_grad():
        for name, parameter in trainable.items():
            parameter.copy_(draw(name, parameter.shape) * 0.3)
    state = get_peft_model_state_dict(model)
    metadata = {"r": 4, "lora_alpha": alpha, "target_modules": linear}
    StableDiffusionPipeline.save_lora_weights(
        folder, unet_lora_layers=state, unet_lora_adapter_metadata=metadata if alpha != 4 else None
    )
    given = inputs("unet", config)
    made = outputs("unet", model, given)
    wanted = targets(made)
    loss = torch.nn.functional.mse_loss(made["prediction"], wanted["prediction"])
    grads = torch.autograd.grad(loss, list(trainable.values()))
    grads = {f"unet.{name.replace('.default', '')}": g for name, g in zip(trainable, grads)}
    write_inputs(folder / "inputs.safetensors", given, wanted)
    dump("unet", folder / "base", folder / "inputs.safetensors", folder / "out.safetensors", folder, folder)
    compare(case, load_file(folder / "out.safetensors"), made, grads)
    for naming in ("peft", "kohya"):
        read = UNet2DConditionModel.from_pretrained(folder / "base").eval()
        state, alphas, metadata = StableDiffusionLoraLoaderMixin.lora_state_dict(
            str(folder), weight_name=f"{naming}.safetensors", unet_config=read.config, return_lora_metadata=True
        )
        StableDiffusionLoraLoaderMixin.load_lora_into_unet(state, alphas, read, metadata=metadata)
        again = outputs("unet", read, given)["prediction"]
        report(f"{case}, ours as {naming}", (again - made["prediction"]).abs().max().item(), 0.0, "read by diffusers")


def main():
    subprocess.run(["cargo", "build", "-q", "-p", "pipelines", "--example", "parity_dump"], cwd=ROOT, check=True)
    chosen = sys.argv[1:]
    for case, (kind, config) in cases().items():
        if not chosen or case in chosen:
            with tempfile.TemporaryDirectory() as folder:
                network(case, kind, config, Path(folder))
    if not chosen or "lora" in chosen:
        for alpha in (4, 10):
            with tempfile.TemporaryDirectory() as folder:
                lora(cases()["unet_sd15"][1], Path(folder), alpha)
    if failures:
        sys.exit(f"deviates: {', '.join(failures)}")


main()
