from __future__ import annotations

import base64
import json
import time
from urllib.parse import parse_qsl, quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testops_lib.redact import PLACEHOLDER, Redactor, sensitive

SECRET = 'p@ss "wörd"/+&='
PLAIN = Redactor()


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET, safe=""),
        quote(SECRET),
        quote_plus(SECRET),
        quote(SECRET, safe="").lower(),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
        SECRET.upper(),
        SECRET.encode().decode("latin-1"),
        json.dumps(SECRET.encode().decode("latin-1"))[1:-1],
        json.dumps(json.dumps(SECRET))[3:-3],
        quote(quote(SECRET, safe=""), safe=""),
        SECRET.encode().hex(),
        SECRET.encode().hex().upper(),
        "".join(f"\\u{ord(character):04x}" for character in SECRET),
        "".join(f"&#{ord(character)};" for character in SECRET),
        "".join(f"&#x{ord(character):X};" for character in SECRET),
        "".join(f"%{byte:02x}" for byte in SECRET.encode()),
        SECRET.replace("@", "\\u0040").replace("s", "&#115;", 1).replace("w", "%77"),
        base64.b64encode(base64.b64encode(SECRET.encode())).decode(),
        base64.b64encode(b"user:" + base64.b64encode(SECRET.encode()) + b":x").decode(),
    ],
)
def test_known_values_are_masked_in_every_form(form: str) -> None:
    shown = Redactor([SECRET]).text(f"before {form} after")
    assert form not in shown and PLACEHOLDER in shown
    assert shown.startswith("before ") and shown.endswith(" after")


@settings(max_examples=50)
@given(
    st.text(alphabet="abcdefgh0123456789_-ABC", min_size=8, max_size=30), st.binary(max_size=20), st.binary(max_size=20)
)
def test_known_value_inside_longer_base64_is_masked(secret: str, before: bytes, after: bytes) -> None:
    encoded = base64.b64encode(before + secret.encode() + after).decode()
    shown = Redactor([secret]).text(encoded)
    assert PLACEHOLDER in shown
    assert len(shown) - len(PLACEHOLDER) <= len(encoded) - len(secret)  # nearly all of it is gone


def test_of_two_secrets_the_longer_one_is_masked_first_in_escaped_forms_too() -> None:
    escaped = "".join(f"\\u{ord(character):04x}" for character in "abcd-efgh")
    assert Redactor(["abcd", "abcd-efgh"]).text(escaped) == PLACEHOLDER


def test_a_character_beyond_sixteen_bits_is_masked_in_its_two_escapes() -> None:
    secret = "key-\U0001f511-x"
    assert Redactor([secret]).text(json.dumps(secret)) == f'"{PLACEHOLDER}"'
    escaped = "".join(f"\\u{unit:04x}" for unit in (0x6B, 0x65, 0x79, 0x2D, 0xD83D, 0xDD11, 0x2D, 0x78))
    assert Redactor([secret]).text(escaped) == PLACEHOLDER


def test_a_lone_surrogate_in_a_secret_is_taken() -> None:
    assert Redactor(["key-\ud800-x"]).text("got key-\ud800-x there") == f"got {PLACEHOLDER} there"


def test_twice_encoded_secrets_are_masked_without_their_padding() -> None:
    for secret in ("abcd-efg", "abcd-efgh", "abcd-efghi"):
        once = base64.b64encode(secret.encode()).rstrip(b"=")
        shown = Redactor([secret]).text(base64.b64encode(once).decode().rstrip("="))
        assert PLACEHOLDER in shown and len(shown) <= len(PLACEHOLDER) + 3


def test_a_question_mark_in_a_query_belongs_to_the_query() -> None:
    assert PLAIN.url("http://h/?token=a?b=c&x=1") == "http://h/?token=[redacted]&x=1"


def test_values_below_four_characters_are_not_masked() -> None:
    assert Redactor(["abc", ""]).text("abc abcd") == "abc abcd"
    assert Redactor(["abcd", "abcdef"]).text("abcd abcdefg") == f"{PLACEHOLDER} {PLACEHOLDER}g"


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "Proxy-Authorization",
        "Cookie",
        "Set-Cookie",
        "X-API-Key",
        "api_key",
        "apiKey",
        "token",
        "access_token",
        "refreshToken",
        "id_token",
        "password",
        "new-password",
        "user[password]",
        "client_secret",
        "private_key",
        "X-Auth-Token",
        "secretKey",
        "session_id",
        "X-CSRF-Token",
        "passwd",
        "recovery_code",
        "recoveryCodes",
        "backup_codes",
        "ssn",
        "socialSecurityNumber",
        "cvv",
        "card_number",
        "passcode",
        "verification_code",
        "totp",
    ],
)
def test_names_of_credentials_are_known(name: str) -> None:
    assert sensitive(name)
    assert PLAIN.pairs(((name, "value-1"),)) == ((name, PLACEHOLDER),)
    assert PLAIN.pairs(((name, ""),)) == ((name, ""),)
    assert PLAIN.url(f"http://h/?a=1&{quote(name)}=value-1&b=2") == f"http://h/?a=1&{quote(name)}={PLACEHOLDER}&b=2"
    assert "value-1" not in PLAIN.text(json.dumps({"a": [{name: "value-1"}]}))
    assert PLAIN.text(f"a=1&{name}=value-1&b=2") == f"a=1&{name}={PLACEHOLDER}&b=2"


@pytest.mark.parametrize(
    "name", ["name", "id", "author", "next_page_token", "Content-Type", "tokens_used", "path", "compass"]
)
def test_other_names_are_left(name: str) -> None:
    assert PLAIN.pairs(((name, "value 1"),)) == ((name, "value 1"),)
    document = json.dumps({name: "value-1"})
    assert PLAIN.text(document) == document


def test_a_member_called_key_is_masked_when_its_value_looks_generated() -> None:
    generated = "9f86d081884c7d659a2feaa0c55ad015"
    assert PLAIN.text(f'{{"key": "{generated}", "id": 1}}') == f'{{"key": "{PLACEHOLDER}", "id": 1}}'
    assert PLAIN.text(f"key={generated}&id=1") == f"key={PLACEHOLDER}&id=1"
    assert PLAIN.pairs((("key", generated),)) == (("key", PLACEHOLDER),)
    assert PLAIN.url(f"http://h/?key={generated}") == f"http://h/?key={PLACEHOLDER}"
    for harmless in ("PROJ-1", "dark_mode", "a sentence of more than 16 letters, 1 digit"):
        document = json.dumps({"key": harmless, "keys": [harmless]})
        assert PLAIN.text(document) == document
        assert PLAIN.pairs((("key", harmless),)) == (("key", harmless),)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"token":"abc","b":1}', '{"token":"[redacted]","b":1}'),
        ('{"token" : "a\\"b\\\\","b":1}', '{"token" : "[redacted]","b":1}'),
        ('{"pass\\u0077ord":"abc"}', '{"pass\\u0077ord":"[redacted]"}'),
        ('{"password":12345,"x":2}', '{"password":"[redacted]","x":2}'),
        ('{"password":null,"token":"","secret":true}', '{"password":null,"token":"","secret":true}'),
        ('{"credentials":{"user":"u","a":["]}",1]},"x":2}', '{"credentials":"[redacted]","x":2}'),
        ('{"a":{"b":[{"secret":["s1","s2"]}]}}', '{"a":{"b":[{"secret":"[redacted]"}]}}'),
        ('{"a":1,"token":"cut he', '{"a":1,"token":"[redacted]'),
        ('{"secret":{"a":"cut', '{"secret":"[redacted]"'),
        ('{"a":"{\\"token\\":\\"abc\\",\\"b\\":1}"}', '{"a":"{\\"token\\":\\"[redacted]\\",\\"b\\":1}"}'),
        ('{"token":"abc', '{"token":"[redacted]'),
        ('{"url":"http://h/?token=abc&x=1"}', '{"url":"http://h/?token=[redacted]&x=1"}'),
        ("Authorization: Basic abc\r\nX: y", "Authorization: [redacted]\r\nX: y"),
        ("sent Bearer abcdef-123456 there", "sent Bearer [redacted] there"),
        ("bearer authentication is needed", "bearer authentication is needed"),
        ("postgres://user:pw@host/db", "postgres://[redacted]@host/db"),
        ("mail me@example.com", "mail me@example.com"),
    ],
)
def test_text_is_masked_where_a_name_says_so(text: str, shown: str) -> None:
    assert PLAIN.text(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sent Basic dXNlcjpwYXNz0= there", "sent Basic [redacted] there"),
        ("sent Token abcdef-123456 there", "sent Token [redacted] there"),
        ('{"tok\\u0065n":"abc"}', '{"tok\\u0065n":"[redacted]"}'),
        ('{"to\\u006Ben":"abc"}', '{"to\\u006Ben":"[redacted]"}'),
        ('{"token":null,"password":"abc"}', '{"token":null,"password":"[redacted]"}'),
        ('{"token":  ,"password":"abc"}', '{"token":  ,"password":"[redacted]"}'),
        ('{"secret":{"a":[{"b":1}],"c":{}},"x":[1]}', '{"secret":"[redacted]","x":[1]}'),
        ('{"secret":[{"a":[1]},[2]],"x":{"y":1}}', '{"secret":"[redacted]","x":{"y":1}}'),
        ('{"secret":{"a":"\\"}","b":1},"x":2}', '{"secret":"[redacted]","x":2}'),
        ('{"token":"a\\\\","b":"c"}', '{"token":"[redacted]","b":"c"}'),
        ('{"token":"\\\\\\"x","b":"c"}', '{"token":"[redacted]","b":"c"}'),
        ('"{\\"token\\":\\"a\\\\\\"b\\",\\"c\\":1}"', '"{\\"token\\":\\"[redacted]\\",\\"c\\":1}"'),
        ('"{\\"token\\":\\"cut"', '"{\\"token\\":\\"[redacted]"'),
    ],
)
def test_nested_escaped_and_empty_members_are_masked_and_the_rest_stays(text: str, shown: str) -> None:
    assert PLAIN.text(text) == shown


def test_a_generated_key_inside_a_string_of_json_or_at_the_end_of_a_cut_text_is_masked() -> None:
    generated = "9f86d081884c7d659a2feaa0c55ad015"
    inside = json.dumps(json.dumps({"key": generated, "id": 1}))
    assert PLAIN.text(inside) == inside.replace(generated, PLACEHOLDER)
    assert PLAIN.text(f'{{"key": "{generated}') == f'{{"key": "{PLACEHOLDER}'
    assert PLAIN.text(f'{{"key": "{generated} and more"}}') == f'{{"key": "{generated} and more"}}'


def test_the_end_of_a_very_long_name_says_whether_it_is_a_credential_s() -> None:
    assert sensitive("x" * 300 + "_token") and sensitive("password" + "x" * 192)
    assert not sensitive("password" + "x" * 193)


@pytest.mark.parametrize(
    "key",
    [
        "AIza" + "b" * 35,
        "sk-" + "a1" * 20,
        "sk-proj-" + "a1_" * 20,
        "ghp_" + "a" * 36,
        "github_pat_" + "a1" * 20,
        "AKIA" + "B2" * 8,
        "xoxb-" + "1" * 20,
        "glpat-" + "a" * 20,
        "sk_live_" + "a" * 20,
        "ya29." + "a" * 30,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_well_known_shapes_are_masked(key: str) -> None:
    assert PLAIN.text(f"got {key} there") == f"got {PLACEHOLDER} there"
    assert key not in PLAIN.url(f"http://h/x?q={key}") and key not in PLAIN.pairs((("X-A", key),))[0][1]


def test_url_keeps_everything_else() -> None:
    url = "https://h:8/a%2Fb/../c?x=%20y&&z&empty=&u=1#top"
    assert PLAIN.url(url) == url
    assert PLAIN.url("http://me:pw@h/x?a=1&access%5Ftoken=t#token=abc") == (
        "http://[redacted]@h/x?a=1&access%5Ftoken=[redacted]#token=[redacted]"
    )
    assert PLAIN.url("http://h/x?%70assword=hunter2") == "http://h/x?%70assword=[redacted]"


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["a", "token", "password", "b"]), inner, max_size=3)
        ),
    )
)
@settings(max_examples=150)
def test_masked_json_is_still_json(document: object) -> None:
    for separators in ((",", ":"), (", ", ": ")):
        shown = json.loads(PLAIN.text(json.dumps(document, separators=separators)))
        if isinstance(document, dict) and "token" not in document and "password" not in document:
            assert shown.keys() == document.keys()


@given(st.text(max_size=200))
def test_any_text_is_taken(text: str) -> None:
    PLAIN.text(text)
    PLAIN.url(text)
    PLAIN.pairs(((text, text),))


@given(st.text(alphabet='{}[]":,\\ token=&?', max_size=120))
def test_masking_twice_changes_nothing_more(text: str) -> None:
    once = PLAIN.text(text)
    assert PLAIN.text(once) == once


HOSTILE = {
    "letters": "a",
    "quotes": '"',
    "escapes": '\\"',
    "backslashes": "\\",
    "open": '{"token":',
    "open list": '"secret":[',
    "half strings": '"token":"',
    "embedded": '\\"token\\":\\"',
    "equals": "=",
    "assignments": "token=",
    "scheme": "bearer ",
    "urls": "://",
    "users": "://a:b",
    "at": "://a@",
    "jwt": "eyJ",
    "jwt dots": "eyJaaaaaaa.",
    "begin": "-----BEGIN PRIVATE KEY-----",
    "spaces": " ",
    "member space": '"a" ',
    "sk": "sk-",
    "header": "cookie: ",
    "brackets": "[",
    "percent": "%",
    "xox": "xoxb-",
    "half escapes": "\\u0073",
    "character references": "&#115;&#x65;",
    "percent escapes": "%73%65",
    "keys": '"key":"a1',
    "lines": "authorization:\n",
    "dashes": "-",
    "names": "a.b[c]-",
    "long key": '"' + "a" * 79,
    "authorization": "authorization",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_time_is_linear_on_a_hostile_megabyte(kind: str) -> None:
    redactor = Redactor(["secret-value", "another one"])
    unit = HOSTILE[kind]

    def cost(size: int) -> float:
        text = unit * (size // len(unit))
        before = time.process_time()
        redactor.text(text)
        redactor.url(f"http://h/{text[:100_000]}?{text[:100_000]}")
        return time.process_time() - before

    assert cost(1_000_000) < 3


def test_nothing_leaks_from_a_long_form() -> None:
    body = "&".join(f"field{i}={i}&password={i}-hidden" for i in range(200))
    assert all(value == PLACEHOLDER for name, value in parse_qsl(PLAIN.text(body)) if name == "password")
