"""Files of tensors."""

import pytest
import torch

from data_prep.tensor_file import load_tensors, save_tensors

TENSORS = {
    "x": torch.arange(50.0),
    "transposed": torch.arange(6).reshape(2, 3).T,
    "empty": torch.zeros(0, 3),
    "scalar": torch.tensor(3),
    "bool": torch.tensor([True]),
}
META = {"elbo": [0.1 + 0.2, float("inf")], "names": ["é", "\0"], "n": 3, "none": None}


def test_round_trip_and_the_same_bytes_for_the_same_content(tmp_path):
    for name in ("a.pt", "another.pt"):
        save_tensors(TENSORS, META, tmp_path / name)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "another.pt").read_bytes()
    tensors, meta = load_tensors(tmp_path / "a.pt")
    assert meta == META and tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[k], v) and tensors[k].dtype == v.dtype for k, v in TENSORS.items())


def test_every_wrong_byte_and_every_cut_is_seen(tmp_path):
    path = tmp_path / "x.pt"
    save_tensors(TENSORS, META, path)
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ValueError, match="is not a file of tensors|checksum"):
            load_tensors(path)
    for end in range(0, len(content), 7):
        path.write_bytes(content[:end])
        with pytest.raises(ValueError, match="is not a file of tensors"):
            load_tensors(path)
