"""The ad reader: what it reads, it reads as classad2; what it cannot use, it refuses."""

import os
import subprocess
import sys
from pathlib import Path

import classad2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from condor_isolation import ads

REAL_ADS = sorted((Path(__file__).parent / "ads").glob("*.ad"))
NO_MACHINE_AD = b"Memory = 1024\n"


def parsed(text):
    """Return the ad TEXT as classad2 reads it, or None."""
    return classad2.parseNext(text, classad2.ParserType.Old)


def same(ours, theirs):
    """Tell whether our value OURS is classad2's value THEIRS, type included."""
    if isinstance(theirs, classad2.Value):
        return ours is (ads.ERROR if theirs == classad2.Value.Error else ads.UNDEFINED)
    return type(ours) is type(theirs) and ours == theirs


def job_ads(job, machine=NO_MACHINE_AD, classad_dir=""):
    return ads.JobAds(job, lambda: machine, classad_dir)


# Reading like classad2


literals = st.one_of(
    st.text(alphabet='0123456789.eE+-"\\ \t\r\v\fxKaé#/', max_size=12),
    st.from_regex(r"-?[0-9]{1,20}(\.[0-9]{0,20})?([eE][-+]?[0-9]{1,3})?[KMf]?", fullmatch=True),
    st.integers(-(2**70), 2**70).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda x: f"{x:.15E}"),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\0"), max_size=20).map(
        lambda s: f'"{s}"'
    ),
    st.sampled_from(
        ["true", "undefined", "error", "FALSE", "t", "UNDEFINED2", "nan", "inf"]
    ).flatmap(
        lambda word: st.lists(st.booleans(), min_size=len(word), max_size=len(word)).map(
            lambda ups: "".join(c.swapcase() if up else c for c, up in zip(word, ups))
        )
    ),
)
blanks = st.text(alphabet=" \t\r\v\f", max_size=3)


@given(blanks, literals, blanks)
@example("", "1e3", "")
@example("", "9223372036854775808", "")
@example("", "-9223372036854775808", "")
@example("", "010", "")
@example("", "1e999", "")
@example("", "5.", "")
@example("", ".5", "")
@example("", r'"ends in a backslash\"', "")
@example("", r'"ends in a backslash\"', " ")
@example("", r'"a\"b"', "")
@example("", r'"C:\new\table"', "")
@example("", '"a" "b"', "")
@example("", '"', "")
@example(" ", "TrUe", "\t\r")
def test_a_literal_that_is_read_here_is_what_classad2_reads(before, text, after):
    value = ads.literal((before + text + after).encode())
    if value is not None:
        ad = parsed(f"A = {before}{text}{after}")
        assert ad is not None
        assert same(value, ad.eval("A"))


attribute_lines = st.tuples(
    st.sampled_from(["", " ", "\t", "\v ", "#", "x"]),
    st.sampled_from(["Name", "NAME", "name", "Nam", "Names", "NameName", "Other"]),
    st.sampled_from(["", " ", "   ", "\t", " \t", "."]),
    st.sampled_from(["=", "= ", "=\t", "==", "= =", "=\v"]),
    st.sampled_from(["1", '"Name = 2"', "true", "-3.5e2", '"x\\"y"', "", "1 2", "Other"]),
).map("".join)


@given(st.lists(attribute_lines, max_size=8), st.booleans())
def test_the_attribute_that_is_found_is_the_one_that_classad2_finds(lines, windows):
    text = ("\r\n" if windows else "\n").join(lines)
    good = [line for line in lines if parsed(line) is not None]
    ad = parsed("\n".join(good)) or classad2.ClassAd()
    raw = ads.Ad(text.encode()).raw("name")
    value = None if raw is None else ads.literal(raw)
    if raw is None:
        assert "Name" not in ad
    elif value is not None and len(good) == len(lines):
        assert same(value, ad.eval("Name"))


@pytest.mark.parametrize("path", REAL_ADS, ids=lambda path: path.name)
def test_every_attribute_of_a_real_ad_is_read_as_by_classad2(path):
    text = path.read_text()
    ad = parsed(text)
    plain = 0
    for name in ad:
        raw = ads.Ad(text.encode()).raw(name.upper())
        assert raw is not None
        value = ads.literal(raw)
        if value is not None:
            plain += 1
            assert same(value, ad.eval(name)), name
    assert plain > 0.8 * len(ad)


def test_there_are_real_ads_of_both_releases():
    assert {path.stem.partition("-")[2] for path in REAL_ADS} == {"25.14", "23.9"}


def test_the_last_of_several_lines_counts():
    assert job_ads(b'A = "first"\na = "last"\n').job_value("A") == "last"


def test_an_attribute_behind_a_string_with_newlines_is_not_lost():
    text = b'Environment = "A=1\n\nB"\nRequestMemory = 100\nAsked = RequestMemory * 2\n'
    assert job_ads(text).job_value("Asked") == 200


def test_a_name_inside_another_line_is_not_that_attribute():
    assert job_ads(b'Args = "RequestedChroot = \\"EL9\\""\n').job_value("RequestedChroot") is None


def test_ads_of_megabytes_are_searched_in_linear_time():
    line = b"RequestedChroot" * (ads.AD_BYTES_MAX // 15)
    assert ads.find(line, line.lower(), "RequestedChroot") is None
    blank = b"RequestedChroot \t" * (ads.AD_BYTES_MAX // 17)
    assert ads.find(blank, blank.lower(), "RequestedChroot") is None


def test_bytes_that_are_no_utf8_spoil_neither_literal_nor_expression():
    both = job_ads(b'Args = "\xff"\nA = "\xfe"\nB = size(Args) > 0\n')
    assert both.job_value("A") == "\udcfe"
    assert both.job_value("B") is True


# Expressions


def test_a_job_expression_sees_the_job_as_my_and_the_machine_as_target():
    both = job_ads(b"Memory = 1\nA = MY.Memory + TARGET.Memory\n")
    assert both.job_value("A") == 1025


def test_a_policy_expression_sees_the_machine_as_my_and_the_job_as_target():
    both = job_ads(b"RequestMemory = 100\n")
    assert both.expression_value("MY.Memory - TARGET.RequestMemory") == 924


def test_a_policy_expression_has_the_escapes_of_a_configuration_file():
    assert job_ads(b'OS = "a.b"\n').expression_value(r'regexp("^a\.b$", TARGET.OS)') is True


@pytest.mark.parametrize("text", ["undefined", "TARGET.Nope", "MY.Nope + 1"])
def test_what_is_not_there_is_undefined(text):
    assert job_ads(b"A = 1\n").expression_value(text) is ads.UNDEFINED


@pytest.mark.parametrize("text", ["error", '1 + "a"', "1 / 0"])
def test_what_cannot_be_computed_is_error(text):
    assert job_ads(b"A = 1\n").expression_value(text) is ads.ERROR


def test_a_list_is_no_scalar():
    assert repr(job_ads(b"A = { 1, 2 }\n").job_value("A")) == "a list"


@pytest.mark.parametrize("text", ["2G", "1 2", "(1", "1 +", "a b", '"a" "b"', ""])
def test_half_an_expression_is_refused_and_not_half_read(text):
    with pytest.raises(ads.ExpressionError):
        job_ads(f"A = {text}\n".encode()).job_value("A")


def test_an_attribute_that_is_itself_is_refused_or_without_value():
    try:
        value = job_ads(b"A = A + 1\n").job_value("A")
    except ads.ExpressionError:
        return
    assert isinstance(value, ads.Special)


def test_without_classad2_an_expression_is_refused_with_the_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "classad2", None)
    with pytest.raises(ads.ExpressionError, match="classad2"):
        job_ads(b"A = 1 + 1\n").job_value("A")


def test_without_classad2_a_literal_is_read(monkeypatch):
    monkeypatch.setitem(sys.modules, "classad2", None)
    assert job_ads(b"A = 11\n").job_value("A") == 11


def test_classad2_comes_from_the_directory_of_the_policy():
    where = str(Path(classad2.__file__).parent.parent)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from condor_isolation import ads\n"
        "print(ads.JobAds(b'A = 6 * 7', lambda: b'', sys.argv[2]).job_value('A'))"
    )
    repo = str(Path(ads.__file__).parent.parent)
    arguments = [sys.executable, "-I", "-S", "-c", code, repo, where]
    assert subprocess.run(arguments, capture_output=True, check=True).stdout == b"42\n"


def test_the_machine_ad_is_not_read_for_literals():
    def machine():
        raise AssertionError

    assert (
        ads.JobAds(b'RequestedChroot = "EL9"\n', machine, "").job_value("RequestedChroot") == "EL9"
    )


def test_a_machine_ad_that_is_needed_and_unusable_is_refused():
    def machine():
        raise ads.AdError("gone")

    with pytest.raises(ads.AdError, match="gone"):
        ads.JobAds(b"A = 1 + 1\n", machine, "").job_value("A")


# Files


def test_a_missing_ad_is_refused(tmp_path):
    with pytest.raises(ads.AdError, match="cannot be opened"):
        ads.read_ad(str(tmp_path / "none"))


def test_a_fifo_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "ad")
    with pytest.raises(ads.AdError, match="regular"):
        ads.read_ad(str(tmp_path / "ad"))


def test_a_fifo_with_a_writer_is_refused_too(tmp_path):
    os.mkfifo(tmp_path / "ad")
    writer = os.open(tmp_path / "ad", os.O_RDWR)
    try:
        os.write(writer, b"A = 1\n")
        with pytest.raises(ads.AdError, match="regular"):
            ads.read_ad(str(tmp_path / "ad"))
    finally:
        os.close(writer)


def test_a_symlink_is_refused(tmp_path):
    (tmp_path / "real").write_text("A = 1\n")
    (tmp_path / "ad").symlink_to("real")
    with pytest.raises(ads.AdError, match="cannot be opened"):
        ads.read_ad(str(tmp_path / "ad"))


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/tty", "/"])
def test_a_device_or_directory_is_refused(path):
    with pytest.raises(ads.AdError):
        ads.read_ad(path)


def test_an_ad_that_is_too_big_is_refused(tmp_path):
    (tmp_path / "ad").write_bytes(b"A = 1\n" + b" " * ads.AD_BYTES_MAX)
    with pytest.raises(ads.AdError, match="over 4194304 bytes"):
        ads.read_ad(str(tmp_path / "ad"))


@pytest.mark.parametrize("data", [b"", b"\n", b"nothing", b"\x7fELF\x02\x00 = 1", b"A = 1\n\0"])
def test_what_is_no_ad_is_refused(tmp_path, data):
    (tmp_path / "ad").write_bytes(data)
    with pytest.raises(ads.AdError):
        ads.read_ad(str(tmp_path / "ad"))


def test_a_good_ad_is_read_whole(tmp_path):
    data = b"A = 1\n" * 400_000
    (tmp_path / "ad").write_bytes(data)
    assert ads.read_ad(str(tmp_path / "ad")) == data


@given(st.binary(max_size=200))
def test_no_ad_whatsoever_raises_anything_else(data):
    try:
        job = ads.check_ad("ad", data)
        job_ads(job).job_value("A")
    except (ads.AdError, ads.ExpressionError):
        pass
