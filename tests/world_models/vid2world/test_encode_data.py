"""Cached latents: those of the encoder, resumable, served like frames, and of one encoder only."""

import json
import logging
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.world_models.data.recorded import InMemory, make_episode
from v2w_gym.configs.clips import AugmentationConfig, CacheConfig, ClipsConfig
from v2w_gym.configs.data import PrepareConfig
from v2w_gym.configs.model import ClipConfig, ContextConfig, ResamplerConfig
from v2w_gym.scripts import cli
from v2w_gym.world_models.data.clips import latents
from v2w_gym.world_models.data.clips.batches import FrameReader, load_batches
from v2w_gym.world_models.data.clips.latents import LATENTS, LatentReader, open_latents
from v2w_gym.world_models.data.clips.order import TrainingOrder
from v2w_gym.world_models.data.prepared import open_prepared
from v2w_gym.world_models.data.preparing.prepare import prepare_source
from v2w_gym.world_models.vid2world import encode_data as module
from v2w_gym.world_models.vid2world.encode_data import FrameEncoder, encode_data, make_reader
from v2w_gym.world_models.vid2world.model import Vid2World

LENGTHS = (9, 5, 12)
FRAME = 2 * 4 * 8 * 8
"""Bytes of a latent of the tiny model."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared") / "data"
    episodes = [make_episode(number, length) for number, length in enumerate(LENGTHS)]
    settings = PrepareConfig(source=".", output=str(output), robot="standin_sawyer", workers=1)
    prepare_source(InMemory(episodes), settings)
    return output


@pytest.fixture
def data(folder):
    return open_prepared(folder)


@pytest.fixture
def encoder(tiny_model):
    return FrameEncoder(tiny_model, "tiny.safetensors")


@pytest.fixture
def settings(folder):
    return CacheConfig(data=str(folder), batch_size=4, workers=0)


def batches(reader, order, workers=0):
    wanted = [order.batch(step, 3) for step in range(4)]
    with load_batches(reader, wanted, workers) as found:
        return list(found)


@pytest.mark.parametrize("condition", ["start", "oldest"])
def test_cached_latents_are_those_of_the_frames(
    data, encoder, settings, tmp_path, monkeypatch, condition
):
    monkeypatch.setattr(latents, "SHARD_BYTES", 10 * FRAME)  # a shard holds one of the episodes
    cached = encode_data(data, encoder, tmp_path / "latents", settings)
    assert [shard.frames for shard in cached.shards] == [9, 5, 12]
    order = TrainingOrder(data.lengths, 4, seed=0)
    frames = batches(FrameReader(data, 4, condition), order)
    for workers in (0, 1):
        found = batches(LatentReader(cached, 4, condition), order, workers)
        for one, other in zip(found, frames, strict=True):
            assert one.places == other.places and one.tokens is None
            torch.testing.assert_close(one.actions, other.actions, equal_nan=True)
            assert one.latents.shape == (3, 4, 4, 8, 8) and one.latents.dtype == torch.float16
            for values, pictures in (
                (one.latents[1], other.frames[1]),
                (one.condition, other.condition),
            ):
                expected = encoder.model.autoencoder.encode(pictures.float() / 127.5 - 1)
                torch.testing.assert_close(values.float(), expected, rtol=2e-3, atol=2e-3)


def test_an_interrupted_run_continues_at_the_shard_that_is_not_done(
    data, encoder, settings, tmp_path, monkeypatch
):
    monkeypatch.setattr(latents, "SHARD_BYTES", 15 * FRAME)  # episodes 0 and 1, then 2
    whole = encode_data(data, encoder, tmp_path / "whole", settings)
    real, seen = FrameEncoder.__call__, []

    def interrupted(self, frames):
        seen.append(len(frames))
        if len(seen) == 8:  # one for the shapes, five for the first shard, two for the second
            raise KeyboardInterrupt
        return real(self, frames)

    monkeypatch.setattr(FrameEncoder, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        encode_data(data, encoder, tmp_path / "latents", settings)
    with pytest.raises(FileNotFoundError, match="found none but unfinished ones.*run: v2w cache"):
        open_latents(data, encoder.identity(), tmp_path / "latents")
    cached = encode_data(data, encoder, tmp_path / "latents", settings)
    assert seen[8:] == [1, 4, 4, 4]  # the shapes, and the second shard
    for episode, length in enumerate(LENGTHS):
        one, two = (found.read(LATENTS, episode, 0, length) for found in (cached, whole))
        np.testing.assert_array_equal(one, two)
    assert encode_data(data, encoder, tmp_path / "latents", settings).shapes == whole.shapes
    assert seen[12:] == [1]  # the shapes alone


def test_a_damaged_shard_is_refused_and_written_again(data, encoder, settings, tmp_path):
    cached = encode_data(data, encoder, tmp_path, settings)
    [file] = tmp_path.glob("*.npy")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="of 26 frames in shard 0 of .*run v2w cache again"):
        open_latents(data, encoder.identity(), cached.folder)
    encode_data(data, encoder, tmp_path, settings)
    assert file.read_bytes() == whole


def test_latents_of_another_encoder_are_refused_by_name(data, encoder, settings, tiny_config):
    folder = encode_data(data, encoder, None, settings).folder
    assert folder.parent == data.folder / "latents"
    other = FrameEncoder(Vid2World(tiny_config), "other.safetensors")
    with pytest.raises(ValueError, match=r"encoder other.safetensors \(.* those of tiny.safe"):
        open_latents(data, other.identity(), folder)
    with pytest.raises(FileNotFoundError, match=r"found none, and those of tiny.safetensors \("):
        open_latents(data, other.identity())
    with pytest.raises(ValueError, match="holds another run: expected encoder.digest"):
        encode_data(data, other, folder, settings)
    renamed = FrameEncoder(encoder.model, "renamed.safetensors")
    assert open_latents(data, renamed.identity()).folder == folder


def test_the_denoiser_and_the_window_do_not_change_the_encoder(encoder):
    trained = deepcopy(encoder.model).with_window(5, 1)
    for weight in trained.unet.parameters():
        weight += 1
    assert FrameEncoder(trained, "later").identity().digest == encoder.identity().digest


def test_latents_of_other_data_are_refused(data, encoder, settings, tmp_path):
    cached = encode_data(data, encoder, tmp_path, settings)
    card = json.loads((tmp_path / "latents.json").read_text())
    (tmp_path / "latents.json").write_text(json.dumps({**card, "data": "0" * 16}))
    with pytest.raises(ValueError, match=f"of the data in {data.folder} .* of other data"):
        open_latents(data, encoder.identity(), cached.folder)


def test_tokens_are_those_of_the_image_tower(data, settings, tiny_config, make_model, tmp_path):
    context = ContextConfig(
        clip=ClipConfig(width=16, layers=1, heads=2, hidden=16),
        resampler=ResamplerConfig(
            channels=16, layers=1, heads=2, head_channels=8, hidden=16, tokens=16, out_channels=8
        ),
    )
    unet = replace(tiny_config.unet, context_channels=8)
    model = make_model(replace(tiny_config, context=context, unet=unet))
    encoder = FrameEncoder(model, "with tokens", tokens=True)
    cached = encode_data(data, encoder, tmp_path, settings)
    assert cached.shapes == {"latents": (4, 8, 8), "tokens": (257, 16)}
    order = TrainingOrder(data.lengths, 4, seed=0)
    found, frames = batches(LatentReader(cached, 4), order), batches(FrameReader(data, 4), order)
    expected = model.context.image_tokens(frames[0].condition.float() / 127.5 - 1)
    torch.testing.assert_close(found[0].tokens.float(), expected, rtol=5e-3, atol=5e-3)
    with pytest.raises(ValueError, match="expected a model with an image tower for tokens=true"):
        FrameEncoder(make_model(tiny_config), "tiny", tokens=True)


def test_the_size_is_told_before_and_too_little_space_is_refused(
    data, encoder, settings, tmp_path, caplog, monkeypatch
):
    with caplog.at_level(logging.INFO):
        encode_data(data, encoder, tmp_path / "one", settings)
    assert f"{FRAME} bytes a frame x 26 frames = 0.00 GB in {tmp_path / 'one'}" in caplog.text
    usage = module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OSError, match=r"expected 512 bytes a frame x 26 .* found 0.00 GB; choose"):
        encode_data(data, encoder, tmp_path / "two", settings)
    assert not (tmp_path / "two").exists()


def test_latents_beyond_half_precision_are_refused(data, encoder, settings, tmp_path):
    encoder.model.autoencoder.latent_std.fill_(1e-9)
    with pytest.raises(FloatingPointError, match="expected latents within half precision"):
        encode_data(data, encoder, tmp_path / "latents", settings)


def test_another_robot_is_refused(data, settings, tiny_config, make_model, tmp_path):
    model = make_model(replace(tiny_config, robot="google_robot"))
    with pytest.raises(ValueError, match="data of robot 'google_robot', as x knows it, found data"):
        encode_data(data, FrameEncoder(model, "x"), tmp_path / "latents", settings)


def test_a_training_reads_frames_or_latents_but_augments_only_frames(data, encoder, settings):
    encode_data(data, encoder, None, settings)
    clips = ClipsConfig(data=str(data.folder), clip_frames=4)
    assert isinstance(make_reader(data, clips, encoder), FrameReader)
    assert isinstance(make_reader(data, replace(clips, cached=True), encoder), LatentReader)
    augmented = replace(clips, augmentation=AugmentationConfig())
    assert make_reader(data, augmented, encoder).augmentation == AugmentationConfig()
    with pytest.raises(ValueError, match="expected augmentation=null with cached=true"):
        replace(augmented, cached=True)


def test_the_command_writes_the_latents_of_the_bundled_model(folder, tmp_path, capsys):
    output = tmp_path / "latents"
    words = ["cache", str(folder), f"output={output}", "workers=1"]
    assert cli.main(words) == 0 == cli.main(words)
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == f"26 frames as latents (8, 8, 8) of float16 in {output}"
    assert cli.main(["cache", str(tmp_path)]) == 2
    assert "expected data prepared by `v2w prepare`" in capsys.readouterr().err
