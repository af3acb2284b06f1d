"""The other side of the wire, run where `openpi-client` is installed: `client URL` or `server`."""

import sys
import traceback

import numpy as np
from openpi_client import msgpack_numpy
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve


def be_client(url: str) -> None:
    policy = WebsocketClientPolicy(url)
    metadata = policy.get_server_metadata()
    print(metadata["name"], metadata["layout"])
    frame = np.zeros((64, 64, 3), np.uint8)
    for _ in range(3):
        answer = policy.infer({"observation/image": frame, "prompt": "close the drawer"})
        print(*map(repr, answer["actions"][0].tolist()))
    try:
        policy.infer({"prompt": "close the drawer"})
    except RuntimeError as error:
        print(type(error).__name__, error)


def be_server() -> None:
    def handle(connection: ServerConnection) -> None:
        packer = msgpack_numpy.Packer()
        connection.send(packer.pack({"reset_pose": np.zeros(7)}))
        try:
            while True:
                request = msgpack_numpy.unpackb(connection.recv())
                mean = request["observation/image"].mean()
                1 / int(mean)
                actions = np.full((2, 7), mean)
                connection.send(packer.pack({"actions": actions, "server_timing": {}}))
        except ConnectionClosed:
            pass
        except ZeroDivisionError:
            connection.send(traceback.format_exc())
            connection.close(1011)

    with serve(handle, "127.0.0.1", 0, compression=None, max_size=None) as server:
        print(f"ws://127.0.0.1:{server.socket.getsockname()[1]}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    be_client(sys.argv[2]) if sys.argv[1] == "client" else be_server()
