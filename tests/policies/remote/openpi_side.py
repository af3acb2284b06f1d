"""The other side of the wire, run where `openpi-client` is installed.

Arguments: `client URL`, `server`, or `runtime URL reset|connection|silent`.
"""

import sys
import traceback

import numpy as np
from openpi_client import action_chunk_broker, msgpack_numpy
from openpi_client.runtime import environment, runtime
from openpi_client.runtime.agents import policy_agent
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


class Film(environment.Environment):
    """Shows the same four frames in every episode, and records its actions."""

    def __init__(self, begins: bool) -> None:
        self.begins = begins
        self.frames = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
        self.episodes: list[list[list[float]]] = []

    def reset(self) -> None:
        self.step = 0
        self.episodes.append([])

    def is_episode_complete(self) -> bool:
        return self.step == len(self.frames)

    def get_observation(self) -> dict:
        shown = {"observation/image": self.frames[self.step], "prompt": "close the drawer"}
        return {**shown, "__reset__": True} if self.begins and self.step == 0 else shown

    def apply_action(self, action: dict) -> None:
        self.step += 1
        self.episodes[-1].append(action["actions"].tolist())


class Anew(WebsocketClientPolicy):
    """Connects anew for every episode."""

    def reset(self) -> None:
        self._ws.close()
        self._ws, self._server_metadata = self._wait_for_server()


def be_runtime(url: str, how: str) -> None:
    film = Film(begins=how == "reset")
    policy = Anew(url) if how == "connection" else WebsocketClientPolicy(url)
    assert policy.get_server_metadata()["remembers"] is True
    broker = action_chunk_broker.ActionChunkBroker(policy, action_horizon=1)
    runtime.Runtime(film, policy_agent.PolicyAgent(broker), [], num_episodes=2).run()
    for actions in film.episodes[:2]:
        print(actions)


if __name__ == "__main__":
    if sys.argv[1] == "client":
        be_client(sys.argv[2])
    elif sys.argv[1] == "runtime":
        be_runtime(*sys.argv[2:])
    else:
        be_server()
