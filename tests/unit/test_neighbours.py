import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from decur.config import KnnSettings
from decur.errors import DecurError
from decur.metrics import neighbours
from decur.metrics.neighbours import knn_accuracy, neighbour_means, pooled
from decur.pretrain.loop import train_run
from decur.shards import Modality, PairedShards, Sample, ShardWriter
from decur.training.knn import classes_of, knn_of_backbones
from decur.training.methods import build_model
from tests.support.pretraining import log, settings, tensors


def test_the_vote_equals_scikit_learns():
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(0, 4, (260,), generator=generator)
    x = torch.nn.functional.one_hot(classes, 4) + torch.randn(260, 4, generator=generator)
    train, test, own, others = x[:200], x[200:], classes[:200], classes[200:]
    ours = knn_accuracy(train, own, test, others, neighbours=7)
    oracle = KNeighborsClassifier(
        7, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07)
    ).fit(train, own)
    assert ours == pytest.approx(100 * oracle.score(test, others))
    assert 30 < ours < 95


def test_more_neighbours_than_samples_are_all_of_them():
    x, classes = torch.eye(3), torch.arange(3)
    assert knn_accuracy(x, classes, x, classes, neighbours=20) == 100


def plain_means(train, targets, test, count):
    """The mean target of the nearest training samples, one test sample at a time, in float64."""
    train, targets, test = (x.double().numpy() for x in (train, targets, test))
    means = []
    for sample in test:
        distances = ((train - sample) ** 2).sum(axis=1)
        nearest = np.argsort(distances, kind="stable")[:count]
        means.append(targets[nearest].mean(axis=0))
    return torch.from_numpy(np.array(means)).float()


def multi_labels(count, seed=3):
    return torch.randint(0, 2, (count, 6), generator=torch.Generator().manual_seed(seed)).float()


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(neighbours, "CHUNK", 16)
    monkeypatch.setattr(neighbours, "TRAIN_CHUNK", 30)


@pytest.mark.parametrize("offset", [0, 300])
def test_means_equal_a_plain_search_even_far_from_the_origin(small_chunks, offset):
    """A randomly initialised network gives features that differ by little beside their length."""
    x = torch.randn(140, 24, generator=torch.Generator().manual_seed(1)) + offset
    train, test, targets = x[:100], x[100:], multi_labels(100)
    found = neighbour_means(train, targets, test)
    torch.testing.assert_close(found, plain_means(train, targets, test, 5))
    assert found.dtype == torch.float32 and found.shape == (40, 6)


def test_among_equally_near_samples_the_earlier_ones_count(small_chunks):
    """Positions on a coarse grid, many of them several times."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randint(0, 3, (140, 3), generator=generator).float()
    train, test, targets = x[:100], x[100:], multi_labels(100)
    torch.testing.assert_close(
        neighbour_means(train, targets, test), plain_means(train, targets, test, 5)
    )
    same = neighbour_means(torch.ones(100, 3), targets, torch.ones(2, 3))
    torch.testing.assert_close(same, targets[:5].mean(dim=0).expand(2, 6))


@pytest.mark.parametrize("count", [1, 3, 5])
def test_no_more_samples_count_than_there_are(count):
    x, targets = torch.randn(count, 4, generator=torch.Generator().manual_seed(4)), multi_labels(9)
    found = neighbour_means(x, targets[:count], torch.zeros(2, 4))
    torch.testing.assert_close(found, targets[:count].mean(dim=0).expand(2, 6))


def test_equal_votes_are_for_the_first_class():
    """One neighbour each of classes 2 and 1, none of class 0."""
    train, classes = torch.tensor([[0.0], [0.2]]), torch.tensor([2, 1])
    votes = neighbour_means(train, torch.nn.functional.one_hot(classes, 3), torch.zeros(1, 1))
    assert votes.tolist() == [[0, 0.5, 0.5]] and votes.argmax() == 1


def test_pooled_vectors_keep_their_length_only_if_asked_to():
    maps, vectors = torch.full((2, 3, 4, 4), 2.0), torch.tensor([[3.0, 4.0], [6.0, 8.0]])
    raw = pooled([[maps], [vectors]], unit=False)
    assert raw.tolist() == [[2, 2, 2, 3, 4], [2, 2, 2, 6, 8]]
    unit = pooled([[maps], [vectors]])
    assert unit.norm(dim=1).tolist() == pytest.approx([2**0.5] * 2)


@pytest.fixture(scope="module")
def bright_shards(tmp_path_factory):
    """Bright and dark images, and a mask that says the same but for a border of ignored pixels."""
    root = tmp_path_factory.mktemp("knn") / "shards"
    rng = np.random.default_rng(0)
    modalities = (Modality("sar", ("VV", "VH"), "none"), Modality("optical", ("R",), "none"))
    with ShardWriter(root, modalities, {"ignore": 255}) as writer:
        for i in range(96):
            bright = i % 3 == 0
            arrays = {
                m.name: rng.integers(0, 60, (1, len(m.bands), 24, 24)).astype(np.uint8)
                + np.uint8(150 * bright)
                for m in modalities
            }
            mask = np.full((24, 24), 255, dtype=np.uint8)
            mask[:4] = 7 + bright
            split = "train" if i < 64 else "test"
            writer.add(
                Sample(
                    id=str(i),
                    split=split,
                    arrays=arrays,
                    mask=mask,
                    place="north" if bright else "south",
                )
            )
    return root


@pytest.mark.slow
@pytest.mark.parametrize("labels", ["place", "mask"])
def test_a_backbone_is_looked_at_while_it_is_trained(bright_shards, tmp_path, labels):
    knn = KnnSettings(labels=labels, epochs=2, neighbours=5, samples=40)
    watched = settings(knn=knn, epochs=4)
    train_run(watched, bright_shards, tmp_path / "watched")
    lines = log(tmp_path / "watched")
    assert [i for i, line in enumerate(lines) if "knn1" in line] == [7, 15]
    assert all(90 < lines[i][name] <= 100 for i in (7, 15) for name in ("knn1", "knn2"))
    train_run(settings(epochs=4), bright_shards, tmp_path / "plain")
    plain, seen = tensors(tmp_path / "plain"), tensors(tmp_path / "watched")
    assert all(torch.equal(plain[name], seen[name]) for name in plain)


def test_the_mode_of_the_backbones_is_kept_and_nothing_is_looked_at_by_default(bright_shards):
    shards = PairedShards(bright_shards)
    model = build_model(settings(), shards).train()
    assert knn_of_backbones(model.backbones, settings(), shards) == {}
    knn_of_backbones(model.backbones, settings(knn=KnnSettings(labels="place")), shards)
    assert all(module.training for module in model.modules())


def test_a_masks_most_frequent_class_does_not_count_ignored_pixels(bright_shards):
    shards = PairedShards(bright_shards)
    classes = classes_of(shards, "mask", np.arange(4))
    assert classes.tolist() == [8, 7, 7, 8]


def test_an_unknown_column_is_named_with_the_known_ones(bright_shards):
    with pytest.raises(DecurError, match=r"no column 'season' .* use one of place, mask"):
        classes_of(PairedShards(bright_shards), "season", np.arange(4))
