"""Settings: defaults, then the file, then the environment, then the command line; each value
knows where it came from, and what is wrong is told where it stands."""

import os
from pathlib import Path

import msgspec
import pytest

from embedway.origins import data_folder, is_colour_wanted, load_settings
from embedway.secret import Secret
from embedway.settings import CREDENTIAL_NAMES, AccountSettings, ServerSettings, Settings
from embedway.wrong_settings import SettingsError

HOME = {"HOME": "/home/somebody"}


@pytest.fixture
def load(tmp_path):
    """Loads settings from the text of a file and an environment of the test's own."""

    def load(text=None, environ=None, **options):
        path = tmp_path / "embedway.toml"
        if text is not None:
            path.write_text(text, "utf-8")
        return load_settings(
            environ={**HOME, **(environ or {})},
            config=None if text is None else path,
            platform="linux",
            folder=tmp_path / "empty",
            **options,
        )

    return load


def refusal(load, *arguments, **options):
    """The words of a SettingsError."""
    with pytest.raises(SettingsError) as caught:
        load(*arguments, **options)
    return str(caught.value)


def test_defaults(load):
    """With nothing set, every value is its default and says so."""
    loaded = load()

    assert loaded.settings == Settings(home="/home/somebody/.local/share/embedway")
    assert loaded.settings.server.listen == "127.0.0.1:1536"
    assert loaded.origins == {}
    assert loaded.origin("server.listen") == "default"
    assert loaded.notes == ()


ORDER = [
    ({}, {}, {}, 100, "default"),
    ({"file": 11}, {}, {}, 11, "file"),
    ({"file": 11}, {"EMBEDWAY_SERVER_MAX_HEADERS": "12"}, {}, 12, "environment"),
    ({}, {"EMBEDWAY_SERVER_MAX_HEADERS": "12"}, {}, 12, "environment"),
    ({}, {"EMBEDWAY_SERVER_MAX_HEADERS": "12"}, {"server.max_headers": "13"}, 13, "command line"),
    ({"file": 11}, {}, {"server.max_headers": "13"}, 13, "command line"),
]


@pytest.mark.parametrize(("file", "environ", "overrides", "value", "origin"), ORDER)
def test_order(load, tmp_path, file, environ, overrides, value, origin):
    """The command line wins over the environment, that over the file, and that over the default;
    the origin is told."""
    text = f"[server]\nmax_headers = {file['file']}" if file else ""
    loaded = load(text, environ, overrides=overrides)

    names = {
        "file": str(tmp_path / "embedway.toml"),
        "environment": "environment EMBEDWAY_SERVER_MAX_HEADERS",
    }
    assert loaded.settings.server.max_headers == value
    assert loaded.origin("server.max_headers") == names.get(origin, origin)
    assert loaded.settings.server.listen == "127.0.0.1:1536"


def every_setting():
    """(section, field) of every setting that has a variable."""
    for field in msgspec.structs.fields(Settings):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from ((field.name, sub.name) for sub in msgspec.structs.fields(field.type))
    yield ("", "home")


@pytest.mark.parametrize(("section", "field"), list(every_setting()))
def test_every_setting_has_a_variable(load, section, field):
    """Each setting can be set in the environment, and then comes from there."""
    value = {"home": "/h", "listen": "a:1", "cors_origins": "a,b", "response_metadata": "none"}.get(
        field,
        {"enabled": "false", "level": "info", "format": "json", "scope": "key"}.get(
            field, "2097152"
        ),
    )
    name = f"EMBEDWAY_{section}_{field}" if section else f"EMBEDWAY_{field}"
    loaded = load(environ={name.upper(): value})

    dotted = f"{section}.{field}".lstrip(".")
    assert loaded.origins == {dotted: f"environment {name.upper()}"}
    part = getattr(loaded.settings, section) if section else loaded.settings
    assert getattr(part, field) in (
        *(value, value == "true", tuple(value.split(","))),
        *((2097152, 2097152.0) if value == "2097152" else ()),
    )


@pytest.mark.parametrize("field", ["redis_url", "database_url"])
def test_addresses_of_servers_are_secrets(load, field):
    """They may hold a password, so that they are not shown."""
    loaded = load(environ={f"EMBEDWAY_{field.upper()}": "any://:s3cret@127.0.0.1/0"})

    assert getattr(loaded.settings, field).reveal() == "any://:s3cret@127.0.0.1/0"
    assert "s3cret" not in repr(loaded)


@pytest.mark.parametrize("name", ["redis_url", "database_url", "home"])
def test_at_the_top_of_the_file(load, name):
    """What stands in no table can be set in the file, too."""
    loaded = load(f'{name} = "redis://127.0.0.1/0"')

    value = getattr(loaded.settings, name)
    assert (value if name == "home" else value.reveal()) == "redis://127.0.0.1/0"


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("false", False), ("1", True), ("0", False), ("True", True)],
)
def test_truth_in_the_environment(load, text, value):
    """Truth values are read from the words people write."""
    assert load(environ={"EMBEDWAY_LOCAL_ENABLED": text}).settings.local.enabled is value


@pytest.mark.parametrize("text", ["a, b,", " a,b ", "a,,b"])
def test_lists_in_the_environment(load, text):
    """A list is separated by commas; spaces and empty items do not count."""
    loaded = load(environ={"EMBEDWAY_SERVER_CORS_ORIGINS": text})

    assert loaded.settings.server.cors_origins == ("a", "b")


@pytest.mark.parametrize(
    ("text", "environ", "value"),
    [
        ("${A}", {"A": "x"}, "x"),
        ("${A}/${B}", {"A": "x", "B": "y"}, "x/y"),
        ("${A:-d}", {}, "d"),
        ("${A:-d}", {"A": ""}, "d"),
        ("${A:-d}", {"A": "x"}, "x"),
        ("${A:-}", {}, ""),
        ("${A:-a:-b}", {}, "a:-b"),
        ("$A ${} ${1A} {A}", {"A": "x"}, "$A ${} ${1A} {A}"),
    ],
)
def test_references(load, text, environ, value):
    """`${NAME}` in a text of the file stands for a variable, `${NAME:-default}` for one that may be
    missing; all else stays as it is."""
    assert load(f"[server]\nlisten = '{text}'", environ).settings.server.listen == value
    listed = load(f"[server]\ncors_origins = ['{text}']", environ).settings.server.cors_origins
    assert listed == (value,)


@pytest.mark.parametrize("environ", [{}, {"MY_KEY": ""}])
def test_missing_reference(load, environ):
    """A variable that is not set is an error that names it and the place."""
    told = refusal(load, "[providers.openai]\napi_key = '${MY_KEY}'", environ)

    assert "embedway.toml: providers: openai: api_key" in told
    assert "environment variable MY_KEY is not set" in told


@pytest.mark.parametrize(
    ("text", "environ", "overrides", "told"),
    [
        ("[sever]\nx = 1", {}, {}, "embedway.toml: sever: no such setting; did you mean server?"),
        (
            "[server]\nlisen = '1'",
            {},
            {},
            "embedway.toml: server.lisen: no such setting; did you mean listen?",
        ),
        (
            "[providers.openai]\napi_kye = '1'",
            {},
            {},
            "embedway.toml: providers.openai.api_kye: no such setting; did you mean api_key?",
        ),
        (
            "[models.fast]\nmodle = '1'",
            {},
            {},
            "embedway.toml: models.fast.modle: no such setting; did you mean model?",
        ),
        ("zzzzzzzzz = 1", {}, {}, "embedway.toml: zzzzzzzzz: no such setting"),
        (
            "",
            {"EMBEDWAY_SERVER_LISEN": "1"},
            {},
            "EMBEDWAY_SERVER_LISEN: no such setting; did you mean EMBEDWAY_SERVER_LISTEN?",
        ),
        ("", {"EMBEDWAY_HOEM": "1"}, {}, "EMBEDWAY_HOEM: no such setting; did you mean EMBEDWAY_"),
        (
            "",
            {},
            {"server.lisen": "1"},
            "command line: server.lisen: no such setting; did you mean",
        ),
        (
            "",
            {},
            {"serer.listen": "1"},
            "command line: serer: no such setting; did you mean server",
        ),
    ],
)
def test_unknown_names(load, text, environ, overrides, told):
    """A name that is no setting is an error that says where it stands and which one is near."""
    assert told in refusal(load, text, environ, overrides=overrides)


@pytest.mark.parametrize(
    ("text", "environ", "told"),
    [
        ("[server]\nlisten = 1", {}, "embedway.toml: server.listen: Expected `str`, got `int`"),
        ("[server]\ndrain_s = -1", {}, "embedway.toml: server.drain_s: Expected `float` >= 0"),
        ("[server]\nmax_headers = 10.5", {}, "embedway.toml: server.max_headers: Expected `int`"),
        ("[server]\ncors_origins = 3", {}, "embedway.toml: server.cors_origins: Expected"),
        ("[server]\ncors_origins = [3]", {}, "embedway.toml: server.cors_origins: Expected"),
        ("[log]\nlevel = 'loud'", {}, "embedway.toml: log.level: Invalid enum value 'loud'"),
        ("[providers.mine]\nprivate = 'maybe'", {}, "providers.mine.private: Expected `bool`"),
        (
            "[providers.mine]\napi_key = 5",
            {},
            "embedway.toml: providers.mine.api_key: Expected `str",
        ),
        (
            "[providers.fine]\n[providers.mine]\nmax_inputs = 0",
            {},
            "providers.mine.max_inputs: Expected",
        ),
        ("[providers]\nmine = 5", {}, "embedway.toml: providers.mine: Expected `object`"),
        ("[providers.mine.models]\na = 5", {}, "embedway.toml: providers.mine.models"),
        ("[models]\nfast = 'x'", {}, "embedway.toml: models.fast: Expected `object`, got `str`"),
        ("[home]\nx = 1", {}, "embedway.toml: home: Expected `str`, got `object`"),
        ("server = 3", {}, "embedway.toml: server: must be a table, [server]"),
        ("server = 3", {"PORT": "1"}, "embedway.toml: server: must be a table, [server]"),
        ("providers = 3", {"OPENAI_API_KEY": "k"}, "providers: must be a table, [providers]"),
        (
            "",
            {"EMBEDWAY_SERVER_DRAIN_S": "soon"},
            "environment EMBEDWAY_SERVER_DRAIN_S: server.drain_s: Expected `float`, got `str`",
        ),
        (
            "",
            {"EMBEDWAY_LOCAL_ENABLED": "maybe"},
            "environment EMBEDWAY_LOCAL_ENABLED: local.enabled",
        ),
    ],
)
def test_wrong_values(load, text, environ, told):
    """A value of a wrong type or outside its range is an error that says which and where from."""
    assert told in refusal(load, text, environ)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[server", "not valid TOML"),
        (b"a = 1\na = 2", "not valid TOML"),
        (b"a = '\xff'", "not valid TOML"),
        (b"\x00", "not valid TOML"),
    ],
)
def test_no_toml(tmp_path, content, told):
    """A file that is no TOML is told as that, with its name."""
    path = tmp_path / "x.toml"
    path.write_bytes(content)

    with pytest.raises(SettingsError, match=rf"x\.toml: {told}"):
        load_settings(environ=HOME, config=path)


def test_missing_file(tmp_path):
    """A file that was named must exist; a folder in its place cannot be read."""
    with pytest.raises(SettingsError, match=r"none\.toml: no such file"):
        load_settings(environ=HOME, config=tmp_path / "none.toml")
    with pytest.raises(SettingsError, match=r"none\.toml: no such file"):
        load_settings(environ={**HOME, "EMBEDWAY_CONFIG": str(tmp_path / "none.toml")})
    with pytest.raises(SettingsError, match="cannot be read: "):
        load_settings(environ=HOME, config=tmp_path)


def test_where_the_file_is_looked_for(tmp_path):
    """Without a name the folder, then the user's, is looked in; the variable names one for all."""
    folder, config = tmp_path / "folder", tmp_path / "config"
    (config / "embedway").mkdir(parents=True)
    folder.mkdir()
    environ = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(config)}

    def port():
        return load_settings(environ=environ, folder=folder).settings.server.listen

    assert port() == "127.0.0.1:1536"
    (config / "embedway" / "embedway.toml").write_text("[server]\nlisten = 'a:1'")
    assert port() == "a:1"
    (folder / "embedway.toml").write_text("[server]\nlisten = 'a:2'")
    assert port() == "a:2"
    (tmp_path / "other.toml").write_text("[server]\nlisten = 'a:3'")
    environ["EMBEDWAY_CONFIG"] = str(tmp_path / "other.toml")
    assert port() == "a:3"


def test_user_folder_by_default(tmp_path):
    """The user's folder is `.config` where no variable says otherwise."""
    (tmp_path / ".config" / "embedway").mkdir(parents=True)
    (tmp_path / ".config" / "embedway" / "embedway.toml").write_text("home = '/there'")

    loaded = load_settings(environ={"HOME": str(tmp_path)}, folder=tmp_path / "empty")

    assert loaded.settings.home == "/there"
    assert loaded.origin("home").endswith("embedway.toml")


def test_the_process_itself(monkeypatch, tmp_path):
    """Without further arguments the process's own environment and folder count."""
    for name in os.environ:
        if name.startswith("EMBEDWAY_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("EMBEDWAY_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "embedway.toml").write_text("[log]\nlevel = 'error'")

    loaded = load_settings()

    assert loaded.settings.home_path == tmp_path
    assert loaded.settings.log.level == "error"


@pytest.mark.parametrize(
    ("listen", "environ", "expected"),
    [
        (None, {"PORT": "8080"}, "127.0.0.1:8080"),
        ("0.0.0.0:99", {"PORT": "8080"}, "0.0.0.0:8080"),
        ("0.0.0.0", {"PORT": "8080"}, "0.0.0.0:8080"),
        ("[::]:99", {"PORT": "8080"}, "[::]:8080"),
        ("[::1]", {"PORT": "8080"}, "[::1]:8080"),
        ("::1", {"PORT": "8080"}, "[::1]:8080"),
        ("0.0.0.0:99", {"PORT": ""}, "0.0.0.0:99"),
        (None, {"PORT": "8080", "EMBEDWAY_SERVER_LISTEN": "x:1"}, "x:1"),
    ],
)
def test_port(load, listen, environ, expected):
    """`PORT`, which hosting platforms set, changes the port alone; our own variable wins."""
    text = "" if listen is None else f"[server]\nlisten = '{listen}'"

    assert load(text, environ).settings.server.listen == expected


@pytest.mark.parametrize("name", ["OPENAI_BASE_URL", "OPENAI_API_BASE"])
def test_base_url_of_callers_is_never_read(load, name):
    """The variable that points our callers at us never becomes an upstream's address."""

    class Watched(dict):
        """Notes which names are read."""

        def get(self, key, default=None):
            read.add(key)
            return super().get(key, default)

        def __getitem__(self, key):
            read.add(key)
            return super().__getitem__(key)

    read = set()
    environ = Watched(HOME | {name: "http://127.0.0.1:1536/v1", "OPENAI_API_KEY": "k"})
    loaded = load_settings(environ=environ, folder=Path("/nowhere"))

    assert name not in read
    assert loaded.settings.providers["openai"].base_url is None


@pytest.mark.parametrize(
    ("provider", "names"), list(CREDENTIAL_NAMES.items()), ids=list(CREDENTIAL_NAMES)
)
def test_credentials_without_a_file(load, provider, names):
    """Each variable that a provider's own SDK reads makes an account; the first one set counts, and
    of the others the operator is told."""
    for at, name in enumerate(names):
        given = {other: f"key of {other}" for other in names[at:]}
        loaded = load(environ=given)
        account = loaded.settings.providers[provider]

        assert account == AccountSettings(api_key=Secret(f"key of {name}"))
        assert loaded.origin(f"providers.{provider}.api_key") == f"environment {name}"
        assert len(loaded.notes) == len(given) - 1
        assert all(name in note for note in loaded.notes)
    assert load(environ=dict.fromkeys(names, "")).settings.providers == {}


def test_the_file_wins_over_a_credential_variable(load):
    """An account that the file describes is not touched by the variable."""
    loaded = load("[providers.openai]\napi_key = 'of the file'", {"OPENAI_API_KEY": "other"})

    assert loaded.settings.providers["openai"].api_key == Secret("of the file")


def test_credential_file(load, tmp_path):
    """A credential is read from its file, without the line's end."""
    (tmp_path / "key").write_text("  sk-of-file\n")

    loaded = load(f"[providers.openai]\napi_key_file = '{tmp_path}/key'")

    assert loaded.settings.providers["openai"].api_key == Secret("sk-of-file")


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "No such file"), (b"\xff\xfe", "not UTF-8")],
)
def test_bad_credential_file(load, tmp_path, content, told):
    """A credential file that cannot be read is told by the account's name, without its content."""
    if content is not None:
        (tmp_path / "key").write_bytes(content)

    message = refusal(load, f"[providers.mine]\napi_key_file = '{tmp_path}/key'")

    assert message.startswith("providers.mine.api_key_file: cannot be read: ")
    assert told in message


def test_two_credentials(load, tmp_path):
    """A credential and a file of one for the same account are one too many."""
    text = f"[providers.mine]\napi_key = 'a'\napi_key_file = '{tmp_path}'"

    assert "providers.mine: set api_key or api_key_file, not both" in refusal(load, text)


SECRET = "sk-do-not-tell-0123456789"


@pytest.mark.parametrize(
    "text",
    [
        f"[providers.openai]\napi_key = '{SECRET}'\nx = 1",
        f"[providers.openai]\napi_key = ['{SECRET}']",
        f"[providers.openai]\napi_key = {{ a = '{SECRET}' }}",
        f"[providers.openai]\napi_key = '{SECRET}'\nprivate = 'x'",
        f"[providers]\nopenai = '{SECRET}'",
        f"[providers.openai]\napi_key = '{SECRET}'\napi_key_file = 'x'",
        "[providers.openai]\napi_key = '${KEY}'\nx = 1",
        f"providers = '{SECRET}'",
    ],
)
def test_errors_do_not_tell_credentials(load, text):
    """Whatever is wrong around a credential, the message does not hold it."""
    assert "do-not-tell" not in refusal(load, text, {"KEY": SECRET})


def test_settings_do_not_tell_credentials(load):
    """The repr of all settings, origins and notes holds no credential."""
    loaded = load(
        f"[providers.mine]\nkind = 'openai'\napi_key = '{SECRET}'",
        {"OPENAI_API_KEY": SECRET, "GOOGLE_API_KEY": SECRET, "GEMINI_API_KEY": SECRET},
    )

    assert "do-not-tell" not in repr(loaded)
    assert loaded.settings.providers["openai"].api_key == Secret(SECRET)


@pytest.mark.parametrize(
    ("platform", "environ", "folder"),
    [
        ("linux", {"HOME": "/h"}, "/h/.local/share/embedway"),
        ("linux", {"HOME": "/h", "XDG_DATA_HOME": "/x"}, "/x/embedway"),
        ("linux", {"HOME": "/h", "XDG_DATA_HOME": ""}, "/h/.local/share/embedway"),
        ("freebsd14", {"HOME": "/h"}, "/h/.local/share/embedway"),
        ("darwin", {"HOME": "/h"}, "/h/Library/Application Support/embedway"),
        ("win32", {"USERPROFILE": "/u"}, "/u/AppData/Local/embedway"),
        ("win32", {"USERPROFILE": "/u", "LOCALAPPDATA": "/l"}, "/l/embedway"),
    ],
)
def test_data_folder(platform, environ, folder):
    """State lives where the platform keeps a user's data."""
    assert data_folder(environ, platform) == Path(folder)


def test_home_is_expanded():
    """`~` in `home` is the user's folder."""
    assert Settings(home="~/x").home_path == Path.home() / "x"


@pytest.mark.parametrize(
    ("value", "wanted"), [(None, True), ("", True), ("1", False), ("0", False)]
)
def test_colour(value, wanted, monkeypatch):
    """Any value of NO_COLOR but the empty one turns colours off."""
    environ = {} if value is None else {"NO_COLOR": value}
    assert is_colour_wanted(environ) is wanted

    monkeypatch.setenv("NO_COLOR", value or "")
    assert is_colour_wanted() is wanted


def test_defaults_are_within_their_ranges():
    """Every default is a value that the operator could have written."""
    for settings in (Settings(home="/h"), ServerSettings()):
        data = msgspec.to_builtins(settings)
        assert msgspec.convert(data, type(settings)) == settings


@pytest.mark.parametrize("value", ["", "${NOWHERE:-}"])
def test_empty_credential(tmp_path, value):
    """A credential that is there but empty stops the start: it would be sent as nothing."""
    (tmp_path / "embedway.toml").write_text(f'[providers.openai]\napi_key = "{value}"\n')

    with pytest.raises(SettingsError, match=r"providers\.openai\.api_key is empty"):
        load_settings(environ={"HOME": str(tmp_path)}, folder=tmp_path)
