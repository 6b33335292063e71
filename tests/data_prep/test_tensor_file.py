"""Files of tensors."""

import pytest
import torch

from data_prep.tensor_file import load_tensors, save_tensors


def test_the_same_content_gives_the_same_bytes(tmp_path):
    for name in ("a.pt", "another.pt"):
        save_tensors({"x": torch.arange(50.0), "n": 3}, tmp_path / name)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "another.pt").read_bytes()
    found = load_tensors(tmp_path / "a.pt")
    assert found["n"] == 3 and torch.equal(found["x"], torch.arange(50.0))


def test_one_wrong_bit_in_a_number_is_seen(tmp_path):
    """torch would give another number."""
    path, values = tmp_path / "x.pt", torch.arange(50.0)
    save_tensors({"x": values}, path)
    content, payload = path.read_bytes(), values.numpy().tobytes()
    place = content.index(payload) + 100
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    assert not torch.equal(torch.load(path, weights_only=True)["x"], values)
    with pytest.raises(ValueError, match="checksum"):
        load_tensors(path)
