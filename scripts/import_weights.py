"""Makes a facetx checkpoint of another program's published weights:

python scripts/import_weights.py --from face-transformer Backbone_VIT.pth --out imported/vit_p12s8

The folder is one for facetx.load_model, scripts/eval_lfw.py --checkpoint and model.init_from. No pickle's code is run.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

from facetx.cli import Parser, run_script, say, whole


def main(args: argparse.Namespace) -> int:
    from facetx.backbones.importers import IMPORTERS
    from facetx.checkpoints.backbone import build_backbone
    from facetx.checkpoints.format import sha256
    from facetx.checkpoints.meta import Meta
    from facetx.checkpoints.weights import load_weights, read_weights
    from facetx.checkpoints.write import save_checkpoint
    from facetx.config.settings import InputSettings, ModelSettings
    from facetx.errors import CheckpointError, ConfigError, UnknownNameError, did_you_mean
    from facetx.nn.profile import parameter_count

    file, out = Path(args.file), Path(args.out)
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise ConfigError(f"--out {out}: exists and is not an empty folder; choose another")
    if args.source not in IMPORTERS:
        raise UnknownNameError(f"--from {args.source}: is not known; {did_you_mean(args.source, IMPORTERS)}")
    importer = IMPORTERS[args.source]
    if args.heads is not None and args.source != "cct":
        raise ConfigError(f"--heads: the weights of {args.source} say it themselves; leave it out")
    state = read_weights(file)
    try:
        name, sizes, weights = importer(state, **({"heads": args.heads} if args.heads else {}))
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from error

    given = {"color": args.color, "mean": args.mean, "std": args.std}
    contract = dataclasses.replace(importer.contract, **{k: v for k, v in given.items() if v is not None})
    told = InputSettings(color=contract.color, mean=contract.mean, std=contract.std)
    model = ModelSettings(name=name, args=sizes, input=told)
    backbone = build_backbone(model)
    load_weights(backbone, weights, f"{file}: {name}")
    meta = Meta.make(
        step=0,
        settings={"name": out.name, "seed": None, "model": model.model_dump(mode="json")},
        input=backbone.contract,
        source={"program": importer.source, "file": file.name, "sha256": sha256(file)},
        license=args.license,
    )
    save_checkpoint(out, meta, backbone.state_dict())
    say(f"{name} with {', '.join(f'{k}={v}' for k, v in sizes.items())}")
    say(f"{parameter_count(backbone) / 1e6:.2f} M parameters, embeddings of {backbone.embedding_dim}")
    say(f"input: {backbone.contract}")
    say(f"written: {out}  |  use it: facetx.load_model({str(out)!r})")
    return 0


if __name__ == "__main__":
    parser = Parser(description=__doc__)
    parser.add_argument("file", metavar="FILE", help=".pth, .pt, .ckpt, .safetensors or .npz with a state dict")
    programs = "face-transformer[-efficientnet], insightface-{iresnet,vit}, cvlface-kprpe, cct, mobilefacenet"
    parser.add_argument("--from", dest="source", required=True, metavar="PROGRAM", help=f"whose they are: {programs}")
    parser.add_argument("--out", required=True, help="folder to write, new or empty")
    parser.add_argument("--license", default="unknown", help="of the weights, noted in the checkpoint")
    parser.add_argument("--color", choices=["RGB", "BGR"], help="channel order, where it is not the program's usual")
    parser.add_argument("--mean", type=float, nargs="+", help="in 0..255, where it is not the program's usual")
    parser.add_argument("--std", type=float, nargs="+", help="in 0..255, where it is not the program's usual")
    parser.add_argument(
        "--heads", type=whole(1), help="of a CCT of a width that is not the authors', or with heads not 64 wide"
    )
    sys.exit(run_script(parser, main))
