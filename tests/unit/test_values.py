"""Values of knobs: what is wrong is refused with what to write instead."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condor_isolation import records, values
from condor_isolation.settings import BY_NAME, MIB, Bind
from condor_isolation.values import BadValueError

FLAG = BY_NAME["ISOLATION_ENABLE"]
BINDS = BY_NAME["ISOLATION_BIND"]
ROOTS = BY_NAME["NAMED_CHROOT"]
PRIVATE = BY_NAME["MOUNT_UNDER_SCRATCH"]
CPU_MAX = BY_NAME["ISOLATION_CPU_MAX"]
MEMORY = BY_NAME["ISOLATION_MEMORY_HIGH"]


def parse(row, text):
    return {**values.PARSERS, **values.ENTRY_PARSERS}[row.kind](row, text)


def refusal(row, text):
    with pytest.raises(BadValueError) as refused:
        parse(row, text)
    assert refused.value.what and refused.value.remedy
    return refused.value


@pytest.mark.parametrize("text", ["True", "true", "T", "yes", "1"])
def test_a_flag_is_true_in_each_of_htcondors_spellings(text):
    assert parse(FLAG, text) is True


@pytest.mark.parametrize("text", ["", "on", "TARGET.X", "2", "tru e"])
def test_a_flag_that_is_no_truth_value_is_refused(text):
    assert refusal(FLAG, text).name == "BAD_VALUE"


def test_a_mode_may_be_in_capitals():
    assert parse(BY_NAME["ISOLATION_PID_MODE"], "REQUIRE") == "require"


def test_a_misspelt_mode_is_refused_with_the_nearest_one():
    assert refusal(BY_NAME["ISOLATION_PID_MODE"], "requird").remedy == "write require"


def test_a_network_that_does_not_exist_yet_is_refused():
    assert "host" in refusal(BY_NAME["ISOLATION_NETWORK"], "none").remedy


def test_numbers_come_in_the_units_of_the_policy():
    assert parse(MEMORY, "2048") == 2048 * MIB
    assert parse(CPU_MAX, "1.5") == 1500


def test_a_number_with_a_suffix_is_refused_with_the_plain_number():
    assert refusal(MEMORY, "2G").remedy == "write 2048 (MiB)"
    assert refusal(MEMORY, "512 MiB").remedy == "write 512 (MiB)"


@pytest.mark.parametrize("text", ["0", "-1", "99999999999999999999"])
def test_a_number_out_of_range_is_refused_with_the_range(text):
    assert refusal(MEMORY, text).name == "OUT_OF_RANGE"


@pytest.mark.parametrize("text", ["ten", "NaN", "Infinity", "1e3", "0x10", "1 000", "12x"])
def test_what_is_no_plain_number_is_refused(text):
    assert refusal(BY_NAME["ISOLATION_MIN_UID"], text).name == "BAD_VALUE"


def test_a_fraction_of_a_process_is_refused():
    assert refusal(BY_NAME["ISOLATION_PIDS_MAX"], "100.5").what == "100.5 is too fine"


@given(st.text(max_size=30))
def test_any_text_is_a_number_or_refused(text):
    try:
        assert 0 <= parse(CPU_MAX, text) < 2**63
    except BadValueError as refused:
        assert refused.remedy


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("rel/path", "write the path from / on"),
        ("/a//b", "write /a/b"),
        ("/a/", "write /a"),
        ("/a/./b", "write /a/b"),
        ("/a/../b", "write it without .."),
        ("/a/..", "write it without .."),
        ("//", "write /"),
    ],
)
def test_a_path_not_in_normal_form_is_refused_with_the_form(text, hint):
    with pytest.raises(BadValueError) as refused:
        values.normal_path(text)
    assert (refused.value.name, refused.value.remedy) == ("BAD_PATH", hint)


@given(st.text(alphabet="/.ab", max_size=12))
def test_a_path_is_taken_only_if_the_helper_takes_it(text):
    try:
        assert records.path_is_normal(values.normal_path(text))
    except BadValueError:
        assert not records.path_is_normal(text)


def test_a_bind_is_read_only_unless_rw_is_said():
    assert parse(BINDS, "/a") == Bind("/a", "/a", "ro", "ISOLATION_BIND")
    assert parse(BINDS, "/a:rw") == Bind("/a", "/a", "rw", "ISOLATION_BIND")
    assert parse(BINDS, "/a:/b:ro") == Bind("/a", "/b", "ro", "ISOLATION_BIND")
    assert parse(BINDS, "/a:/b") == Bind("/a", "/b", "ro", "ISOLATION_BIND")


@pytest.mark.parametrize("text", ["/a:r", "/a:/b:/c", "/a:/b:rw:ro", ":/b", "a", "/a:", "rw", ":"])
def test_a_malformed_bind_is_refused(text):
    assert refusal(BINDS, text).name in ("BAD_BIND", "BAD_PATH")


@pytest.mark.parametrize("text", ["EL9", "=/a", "E L=/a", "-a=/b", "a" * 65 + "=/b", "é=/a"])
def test_a_chroot_without_a_good_name_is_refused(text):
    assert refusal(ROOTS, text).name == "BAD_CHROOT_NAME"


def test_the_machine_itself_is_no_chroot():
    assert "is / itself" in refusal(ROOTS, "HOST=/").what


def test_blanks_around_the_equals_sign_of_a_chroot_do_not_count():
    assert values.entries(ROOTS, "A = /a,\n B= /b C =/c") == ["A=/a", "B=/b", "C=/c"]


@pytest.mark.parametrize(
    "text", ['"/tmp,/var/tmp"', "/tmp,/var/tmp", "/tmp /var/tmp", '" /tmp , /var/tmp "']
)
def test_private_directories_may_be_a_string_or_a_plain_list(text):
    assert values.entries(PRIVATE, text) == ["/tmp", "/var/tmp"]


def test_of_an_expression_every_path_that_it_can_give_is_private():
    text = 'ifThenElse(TARGET.Big, "/tmp,/scratch", "/tmp")'
    assert values.is_expression(PRIVATE, text)
    assert values.entries(PRIVATE, text) == ["/tmp", "/scratch", "/tmp"]


def test_an_expression_that_names_no_path_is_refused():
    with pytest.raises(BadValueError, match="no path"):
        values.entries(PRIVATE, "TARGET.WantPrivate")


def test_a_number_is_no_expression_and_the_rest_is():
    assert not values.is_expression(CPU_MAX, "1.5")
    assert not values.is_expression(MEMORY, "2G")
    assert values.is_expression(CPU_MAX, "TARGET.RequestCpus * 1.5")
    assert not values.is_expression(BY_NAME["ISOLATION_MIN_UID"], "TARGET.X")


def test_string_literals_are_told_from_expressions_that_begin_with_one():
    assert values.string_literal('"EL9"') == "EL9"
    assert values.string_literal(r'"a\"b"') == 'a"b'
    assert values.string_literal('"a" + "b"') is None
    assert values.string_literal("EL9") is None


def test_line_ends_within_strings_stay_when_an_expression_becomes_one_line():
    assert values.one_line('a +\n   "x  y"  \t+ b ') == 'a + "x  y" + b'


def test_an_excerpt_of_a_long_value_is_short():
    assert len(values.excerpt("x" * 5000)) < 70
