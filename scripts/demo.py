"""Shows a model live in the browser, on the camera's pictures or on chosen ones; no picture leaves the machine:

python scripts/demo.py --checkpoint runs/my_run                 # or an exported file, model.onnx
python scripts/demo.py --checkpoint model.onnx --static site    # the same page as files for any web server
"""

import argparse
import sys
from pathlib import Path

from facetx.cli import Parser, run_script, say, whole


def main(args: argparse.Namespace) -> int:
    from facetx.demo import exported_file

    with exported_file(args.checkpoint) as path:
        return show(path, args)


def show(path: Path, args: argparse.Namespace) -> int:
    """Serves the page of an exported model, or writes it."""
    from facetx.demo import build_site, find_packages, make_server, read_model, write_static
    from facetx.demo.server import LOCAL

    model = read_model(path, args.calibration, args.checkpoint)
    for note in model.notes:
        say(f"note: {note}", sys.stderr)
    site = build_site(model, find_packages(args.assets))
    if args.static:
        write_static(site, args.static)
        print(f"written: {args.static}; its server must send the headers that {args.static}/_headers lists")
        return 0
    with make_server(site, args.host, args.port) as server:
        host = f"[{args.host}]" if ":" in args.host else args.host
        print(f"open http://{host}:{server.server_port} (Ctrl-C ends it)", flush=True)
        if args.host not in LOCAL:
            print("note: browsers give the camera to pages of https or of localhost alone", file=sys.stderr)
        server.serve_forever()
    return 0


if __name__ == "__main__":
    parser = Parser(description=__doc__)
    parser.add_argument("--checkpoint", required=True, help="a run, or an exported model (.onnx)")
    parser.add_argument("--calibration", metavar="JSON", help="a verification result (default: one beside the model)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=whole(0, 65535), default=8000, help="0 for any that is free (default: 8000)")
    parser.add_argument("--static", metavar="DIR", help="write the page there instead of serving it")
    parser.add_argument("--assets", metavar="DIR", help="a node_modules with the page's packages, instead of npm")
    sys.exit(run_script(parser, main))
