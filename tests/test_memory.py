from pathlib import Path

from workbench.memory import total_memory


def test_a_container_s_limit_counts_where_it_is_less(tmp_path: Path) -> None:
    whole = total_memory(tmp_path)
    assert whole > 2**28
    (tmp_path / "memory.max").write_text(f"{2**27}\n")
    assert total_memory(tmp_path) == 2**27


def test_a_container_without_limit_has_the_machine_s(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    assert total_memory(tmp_path) == total_memory(tmp_path / "none")
