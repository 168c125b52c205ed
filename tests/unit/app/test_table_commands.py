"""Find an app's own commands that create its tables."""

import ast

import pytest

from bake.app.table_commands import table_commands


@pytest.mark.parametrize(
    ("decorator", "function", "commands"),
    [
        ('@click.command("init-db")', "init_db_command", ["init-db"]),
        ('@app.cli.command(name="create_tables")', "anything", ["create_tables"]),
        ("@app.cli.command()", "initdb", ["initdb"]),
        ("@app.cli.command()", "init_db_command", ["init-db"]),
        ("@click.command('setup-database')\n@with_appcontext", "setup", ["setup-database"]),
        ('@app.cli.command("drop-db")', "drop", []),
        ('@app.route("/init-db")', "init_db", []),
        ("@app.cli.command(NAME)", "tidy", []),
        ("@cached", "init_db", []),
    ],
)
def test_commands_for_tables_have_such_names(decorator: str, function: str, commands: list[str]) -> None:
    tree = ast.parse(f"def create_app():\n    pass\n\n{decorator}\ndef {function}():\n    pass\n")
    assert list(table_commands(tree, "python3 a.py")) == [f"flask {command}" for command in commands]


@pytest.mark.parametrize(
    ("group", "end", "commands"),
    [
        ("cli = FlaskGroup(create_app=make)", 'if __name__ == "__main__":\n    cli()', ["python3 a.py create-all"]),
        ("@click.group(cls=FlaskGroup)\ndef cli():\n    pass", 'if __name__ == "__main__":\n    cli()',
         ["python3 a.py create-all"]),
        ("cli = FlaskGroup(create_app=create_app)", "", []),
        ('cli = AppGroup("admin")', "app.cli.add_command(cli)", ["flask admin create-all"]),
        ("@app.cli.group()\ndef cli():\n    pass", "", ["flask cli create-all"]),
    ],
)  # fmt: skip
def test_a_command_of_a_group_is_run_by_that_group(group: str, end: str, commands: list[str]) -> None:
    tree = ast.parse(f"{group}\n\n@cli.command()\ndef create_all():\n    pass\n{end}\n")
    assert list(table_commands(tree, "python3 a.py")) == commands
