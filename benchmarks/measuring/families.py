"""Can `tight` measure common architectures? Small networks, built by transformers, peft and PyTorch.

    .venv/bin/pip install transformers peft
    .venv/bin/python benchmarks/measuring/families.py [--only bert gpt2] [--budget 400]

Networks are made from configurations, with random weights, so nothing is downloaded. The loss is the mean squared difference of the
outputs on a fixed batch, divided by the mean square of the original network's outputs. Each file is decoded and loaded strictly into a
second network, whose loss must be the reported one. A library that isn't installed is recorded as skipped.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.cases.networks import ROOT
from benchmarks.cases.record import Record, Row
from nncomplexity import estimate

OUTPUT = ROOT / "benchmarks" / "results" / "families.json"
VOCABULARY, WIDTH, LENGTH = 96, 32, 12
Inputs = Mapping[str, Tensor]
Maker = Callable[[], tuple[nn.Module, Inputs]]


def _hugging_face(model: str, config: str, inputs: Callable[[], Inputs], **settings: Any) -> Maker:
    """A maker of a network of transformers with these settings."""

    def make() -> tuple[nn.Module, Inputs]:
        library = import_module("transformers")
        return getattr(library, model)(getattr(library, config)(**settings)), inputs()

    return make


def _text() -> Inputs:
    return {"input_ids": torch.randint(3, VOCABULARY, (4, LENGTH))}


def _both_texts() -> Inputs:
    return {**_text(), "decoder_input_ids": torch.randint(3, VOCABULARY, (4, LENGTH))}


def _pictures() -> Inputs:
    return {"pixel_values": torch.randn(4, 3, 16, 16)}


def _text_and_pictures() -> Inputs:
    return {**_text(), **_pictures()}


def _lora() -> tuple[nn.Module, Inputs]:
    peft = import_module("peft")
    base, inputs = FAMILIES["gpt2"]()
    config = peft.LoraConfig(r=2, target_modules=["c_attn"], init_lora_weights=False)
    return peft.get_peft_model(base, config), inputs


def _transformer() -> tuple[nn.Module, Inputs]:
    network = nn.Transformer(WIDTH, 4, 2, 2, 64, batch_first=True)
    return network, {"src": torch.randn(4, LENGTH, WIDTH), "tgt": torch.randn(4, LENGTH, WIDTH)}


_SIZES = {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4}
_WIDE = {**_SIZES, "intermediate_size": 64}
_IMAGES = {"image_size": 16, "patch_size": 4, "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4}
_T5 = {"vocab_size": VOCABULARY, "d_model": WIDTH, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
_CLIP_TEXT = {**_WIDE, "max_position_embeddings": 32, "eos_token_id": 2}
FAMILIES: dict[str, Maker] = {
    "bert": _hugging_face("BertForMaskedLM", "BertConfig", _text, **_WIDE, max_position_embeddings=32),
    "roberta": _hugging_face("RobertaForMaskedLM", "RobertaConfig", _text, **_WIDE, max_position_embeddings=32),
    "albert": _hugging_face("AlbertForMaskedLM", "AlbertConfig", _text, **_WIDE, embedding_size=16),
    "electra": _hugging_face("ElectraModel", "ElectraConfig", _text, **_WIDE, embedding_size=16),
    "deberta": _hugging_face(
        "DebertaV2Model", "DebertaV2Config", _text, **_WIDE, relative_attention=True, pos_att_type=["p2c", "c2p"]
    ),
    "gpt2": _hugging_face(
        "GPT2LMHeadModel", "GPT2Config", _text, vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=2, n_head=4, n_positions=32
    ),
    "gpt-neox": _hugging_face("GPTNeoXForCausalLM", "GPTNeoXConfig", _text, **_WIDE),
    "bloom": _hugging_face("BloomForCausalLM", "BloomConfig", _text, vocab_size=VOCABULARY, hidden_size=WIDTH, n_layer=2, n_head=4),
    "opt": _hugging_face(
        "OPTForCausalLM", "OPTConfig", _text, **_SIZES, ffn_dim=64, word_embed_proj_dim=16, max_position_embeddings=32
    ),
    "llama": _hugging_face("LlamaForCausalLM", "LlamaConfig", _text, **_WIDE, num_key_value_heads=2),
    "mistral": _hugging_face("MistralForCausalLM", "MistralConfig", _text, **_WIDE, num_key_value_heads=2),
    "qwen2": _hugging_face("Qwen2ForCausalLM", "Qwen2Config", _text, **_WIDE, num_key_value_heads=2),
    "gemma": _hugging_face("GemmaForCausalLM", "GemmaConfig", _text, **_WIDE, num_key_value_heads=2, head_dim=8),
    "mixtral": _hugging_face("MixtralForCausalLM", "MixtralConfig", _text, **_WIDE, num_key_value_heads=2, num_local_experts=4),
    "t5": _hugging_face("T5ForConditionalGeneration", "T5Config", _both_texts, **_T5),
    "bart": _hugging_face(
        *("BartForConditionalGeneration", "BartConfig", _both_texts),
        **{"vocab_size": VOCABULARY, "d_model": WIDTH, "max_position_embeddings": 32, "encoder_layers": 2, "decoder_layers": 2},
        **{"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64},
    ),
    "mamba": _hugging_face("MambaForCausalLM", "MambaConfig", _text, vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=2),
    "rwkv": _hugging_face("RwkvForCausalLM", "RwkvConfig", _text, **_WIDE, attention_hidden_size=WIDTH, context_length=32),
    "vit": _hugging_face("ViTForImageClassification", "ViTConfig", _pictures, **_IMAGES, intermediate_size=64),
    "swin": _hugging_face(
        "SwinModel",
        "SwinConfig",
        _pictures,
        image_size=16,
        patch_size=2,
        embed_dim=16,
        depths=[1, 1],
        num_heads=[2, 4],
        window_size=4,
    ),
    "convnext": _hugging_face(
        "ConvNextModel", "ConvNextConfig", _pictures, num_stages=2, patch_size=2, hidden_sizes=[16, 32], depths=[1, 1]
    ),
    "resnet": _hugging_face(
        "ResNetModel", "ResNetConfig", _pictures, embedding_size=8, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic"
    ),
    "clip": _hugging_face(
        *("CLIPModel", "CLIPConfig", _text_and_pictures),
        **{"text_config": _CLIP_TEXT, "vision_config": {**_IMAGES, "intermediate_size": 64}, "projection_dim": 16},
    ),
    "wav2vec2": _hugging_face(
        *("Wav2Vec2Model", "Wav2Vec2Config", lambda: {"input_values": torch.randn(2, 800)}),
        **{**_WIDE, "conv_dim": (16, 16), "conv_stride": (5, 4), "conv_kernel": (10, 8), "num_feat_extract_layers": 2},
        **{"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4},
    ),
    "nn.Transformer": _transformer,
    "gpt2 with lora": _lora,
}


def output_of(network: nn.Module, inputs: Inputs) -> Tensor:
    """The network's main output, as one tensor."""
    found = network(**inputs)
    for name in ("logits", "logits_per_text", "last_hidden_state"):
        if getattr(found, name, None) is not None:
            found = getattr(found, name)
    assert isinstance(found, Tensor)
    return found


def measure(name: str, eps: float, budget: int) -> Row:
    """Measure a network, load its file into a second one, and compare the losses."""
    torch.manual_seed(0)
    network, inputs = FAMILIES[name]()
    network.eval()
    with torch.no_grad():
        reference = output_of(network, inputs)
    scale = reference.square().mean()

    def loss(candidate: nn.Module) -> Tensor:
        return (output_of(candidate, inputs) - reference).square().mean() / scale

    start = time.perf_counter()
    report = estimate(network, loss, eps, budget=budget)
    seconds = time.perf_counter() - start
    torch.manual_seed(1)
    second = FAMILIES[name]()[0].eval()
    second.load_state_dict({**second.state_dict(), **report.coarse_weights()}, strict=True)
    with torch.no_grad():
        again = loss(second).item()
    return {
        "parameters": report.subject.parameters,
        "tensors": len(report.layers),
        "tied": sum(len(layer.names) > 1 for layer in report.layers),
        "left_out": len(report.subject.left_out),
        "within": report.within,
        "bits": report.bits,
        "lossless_bits": min(report.subject.lossless_bits.values()),
        "distortion": report.distortion,
        "evaluations": report.evaluations,
        "seconds": seconds,
        "exact": again == report.coarse_loss,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=FAMILIES, default=list(FAMILIES), metavar="NAME")
    parser.add_argument("--eps", type=float, default=0.1)
    parser.add_argument("--budget", type=int, default=400)
    arguments = parser.parse_args()
    settings: dict[str, Any] = {"eps": arguments.eps, "budget": arguments.budget, "seed": 0}
    for library in ("transformers", "peft"):
        try:
            settings[library] = import_module(library).__version__
        except ImportError:
            settings[library] = None
    record = Record.open(OUTPUT, settings)
    for name in arguments.only:
        try:
            row = record.row(
                {"case": name, "eps": arguments.eps, "budget": arguments.budget},
                lambda name=name: measure(name, arguments.eps, arguments.budget),
            )
        except ImportError as error:
            record.skipped[name] = f"no {error.name}"
            continue
        record.skipped.pop(name, None)
        print(
            f"{name:>16}: {row['parameters']:>7,} parameters, {row['bits'] // 8:>6,} bytes of {row['lossless_bits'] // 8:>7,}",
            end="",
        )
        print(
            f", distortion {row['distortion']:.3g}, {row['seconds']:.0f} s, {'exact' if row['exact'] else 'NOT EXACT'}", flush=True
        )
    record.save()


if __name__ == "__main__":
    main()
