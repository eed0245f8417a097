"""Shares of rows in several processes, and what is asked of one of them alone."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

from aimz_lab.cluster import train
from aimz_lab.inference.checkpoint.checkpoint import load_checkpoint
from tests.cluster import shares_probe as probe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.allow_rank_promotion,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("shares")


@pytest.fixture(scope="module")
def found(folder):
    """What two processes have found, which is the same in both but for whose error it was."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        train(Path(probe.__file__), [str(folder)], processes=2)
    by_rank = {}
    for line in printed.getvalue().splitlines():
        head, _, told = line.partition("RESULT ")
        if told:
            by_rank[int(head.strip(" []"))] = json.loads(told)
    full = [by_rank[rank].pop("full") for rank in (0, 1)]
    assert by_rank[0] == by_rank[1], "the processes differ"
    return {**by_rank[0], "full": full}


def joined(shares):
    """The steps of both processes as batches of one."""
    return [
        {
            name: np.concatenate([own[step][name] for own in shares if step < len(own)])
            for name in "Xy"
        }
        for step in range(max(map(len, shares)))
    ]


def in_two(cuts):
    return joined([list(probe.share(cuts, of)) for of in (0, 1)])


def by_turns():
    """Rows go to the processes in turn."""
    X, y = probe.made()
    starts = range(0, len(y[::2]), probe.BATCH)
    return joined(
        [
            [
                {"X": X[of::2][i : i + probe.BATCH], "y": y[of::2][i : i + probe.BATCH]}
                for i in starts
            ]
            for of in (0, 1)
        ]
    )


def test_shares_train_as_the_stream_of_one_process(found):
    """Shares of other lengths, an empty one, counted, read once, of Zarr, of Parquet, resumed."""
    im, uneven, empty = probe.model(), in_two(probe.UNEVEN), in_two(probe.EMPTY)
    for name, batches in [
        ("uneven", uneven),
        ("empty", empty),
        ("counted", uneven),
        ("once", iter(in_two(probe.EVEN))),
        ("zarr", in_two(probe.HALVES)),
        ("parquet", by_turns()),
        ("resumed", uneven),
    ]:
        epochs = 1 if name == "once" else probe.EPOCHS
        alone = probe.fitted(im, batches, epochs=epochs, n_obs=probe.N_ROWS)
        np.testing.assert_allclose(found[name]["losses"], alone["losses"], rtol=1e-4)
    assert found["cut"]["losses"] == found["resumed"]["losses"][:5]
    rows = 2 * probe.BATCH * len(empty) * probe.EPOCHS
    assert found["empty"]["padded"] == rows - probe.N_ROWS * probe.EPOCHS


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("unknown", "ArgumentError: .*nobody says how many rows they have together.*n_obs=N"),
        ("other n_obs", "ClusterError: .*203 in process 0, 204 in process 1"),
        ("other fields", r"ClusterError: .*process 1 have the fields X \(float32\[2\] a row\)"),
        ("one event", "KernelError: .*rows of padding.*process_shard=True"),
        ("nothing", "DataError: No process has a batch"),
        ("other rows", "ClusterError: Process 1 differs from the first one in its .* data"),
    ],
)
def test_what_does_not_go_together_is_refused_in_all_processes(found, case, sentence):
    assert re.match(sentence, found[case]), found[case]


def test_what_is_asked_of_one_process_holds_for_all(found):
    assert found["whole"]["end"] == ["completed", "all 30 steps done", 30]
    assert len(found["whole"]["validation"]) == 5
    assert found["interrupted"]["end"] == ["interrupted", "interrupted after step 12", 12]
    assert found["stopped"]["end"] == ["stopped", "seen enough", 12]
    assert found["rate"]["rates"] == [[12, 0.5]]
    assert found["paused"]["end"][0] == "completed"
    assert found["early"]["end"][0] == "early_stopped"
    assert found["early"]["end"][2] < 30


def test_ctrl_c_in_the_terminal_stops_the_fit_of_all_processes(found):
    assert found["ctrl-c"]["end"][0] == "interrupted"
    assert found["ctrl-c"]["end"][2] >= 12


def test_the_others_hear_why_one_has_failed_and_its_checkpoints_are_whole(found, folder):
    own, others = found["full"]
    assert own.startswith("ArtifactWriteError"), own
    assert others == f"ClusterError: Process 0 of 2 failed, and this one ends with it: {own}"
    assert load_checkpoint(folder / "runs").step in (6, 12)
    assert not list((folder / "runs").glob("*.partial"))
