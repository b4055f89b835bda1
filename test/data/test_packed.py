"""Files of arrays are written where they are asked for, or not at all."""
import numpy as np
import pytest

from lsm_ros.data.files import check_folder
from lsm_ros.data.packed import read_npz, write_npz
from lsm_ros.errors import OutputError


@pytest.mark.parametrize("name", ["a.npz", "textures", "a.b"])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_has_the_name_that_was_given(tmp_path, name, compressed):
    write_npz(tmp_path / name, {"x": np.arange(3)}, compressed=compressed)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert read_npz(tmp_path / name)["x"].tolist() == [0, 1, 2]


def test_what_cannot_be_written_is_named_and_leaves_nothing(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="folder cannot be written"):
        write_npz(tmp_path / "folder", {"x": np.arange(3)})
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    with pytest.raises(OutputError, match="no folder .*nowhere"):
        check_folder(tmp_path / "nowhere" / "a.npz", "the models")
    check_folder("a.npz", "the models")
