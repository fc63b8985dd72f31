from boneage.cli.options import add_row, make_table, print_table


def test_print_table_cuts_no_number_off(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "20")
    for is_terminal in ("0", "1"):
        monkeypatch.setenv("TTY_COMPATIBLE", is_terminal)
        table = make_table("Errors", ("System", "Bias"))
        add_row(table, "[bold] of a hospital", "-36.4 [-69.1, +7.2] months")
        print_table(table)
        told = capsys.readouterr().out
        assert "-36.4 [-69.1, +7.2] months" in told
        assert "[bold]" in told
