from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcpipe.data.peaks import parse_peaks, place_peaks, unify_peaks
from vcpipe.errors import InputError

REAL = Path(__file__).parents[2].parent / "shared/data/snareseq_mop_atac_counts.h5ad"
few = settings(max_examples=40, deadline=None, derandomize=True)


@pytest.mark.parametrize(
    ("name", "chromosome", "start", "end"),
    [
        ("chr1:100-200", "chr1", 100, 200),
        ("chr1-100-200", "chr1", 100, 200),
        ("chr1_100_200", "chr1", 100, 200),
        ("chr1:100_200", "chr1", 100, 200),
        ("chrUn_KI270742v1_1_200", "chrUn_KI270742v1", 1, 200),
        ("chrUn-KI270742v1-1-200", "chrUn-KI270742v1", 1, 200),
        ("GL000194.1-100-200", "GL000194.1", 100, 200),
        ("HLA-A*01:01:100-200", "HLA-A*01:01", 100, 200),
        ("X:0-1", "X", 0, 1),
        ("1_2_3", "1", 2, 3),
        ("chr1:248956421-248956422", "chr1", 248956421, 248956422),
    ],
)
def test_all_spellings_are_read(name, chromosome, start, end):
    peaks = parse_peaks(np.array([name, "chr22:5000000-5000001"]))
    assert peaks.chromosomes[peaks.chromosome[0]] == chromosome
    assert (peaks.starts[0], peaks.ends[0]) == (start, end)
    assert peaks.names.tolist() == [f"{chromosome}:{start}-{end}", "chr22:5000000-5000001"]


WRONG = ["ACTB", "chr1", "chr1:100", "chr1:200-100", "chr1:5-5", "1-2", ":1-2", "chr1:-5-10"]
WRONG += ["", "chr1:1-x", "chr1:x-1", "chr1:1:2", "chr1:1,000-2,000", f"chr1:1-{10**18}"]


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_peak_is_refused(name):
    with pytest.raises(InputError, match=r"1 of 2 names are no peaks: '.*'; expected chr1:100-200"):
        parse_peaks(np.array(["chr1:100-200", name]))


def test_wrong_names_are_counted_with_three_examples():
    names = np.array([f"chr1:{n}-{n + 9}" for n in range(50)] + [f"gene{n}" for n in range(7)])
    with pytest.raises(
        InputError, match=r"a.h5ad: 7 of 57 names are no peaks: 'gene0', 'gene1', 'gene2'; exp"
    ):
        parse_peaks(names, "a.h5ad")


def test_no_peaks_are_no_error():
    assert parse_peaks(np.array([], dtype=str)).names.tolist() == []
    names, maps = unify_peaks([np.array([], dtype=str)], "overlap")
    assert (len(names), len(maps[0])) == (0, 0)


A = np.array(["chr10:5-9", "chr2:100-200", "chr2:150-250", "chrX:1-2"])
B = np.array(["chr2_240_300", "chr2_300_310", "chrUn_K1_1_5", "chr10_5_9", "chrM_1_2"])


def test_peaks_with_the_same_ends_are_one_whatever_their_spelling():
    names, (a, b) = unify_peaks([A, B], "exact")
    assert names.tolist() == [
        *("chr2:100-200", "chr2:150-250", "chr2:240-300", "chr2:300-310", "chr10:5-9"),
        *("chrX:1-2", "chrM:1-2", "chrUn_K1:1-5"),
    ]
    assert a.tolist() == [4, 0, 1, 5]
    assert b.tolist() == [2, 3, 7, 4, 6]


def test_peaks_of_two_files_that_overlap_are_merged_and_those_that_touch_are_not():
    names, (a, b) = unify_peaks([A, B], "overlap")
    assert names.tolist() == [
        *("chr2:100-200", "chr2:150-300", "chr2:300-310", "chr10:5-9"),
        *("chrX:1-2", "chrM:1-2", "chrUn_K1:1-5"),
    ]
    assert a.tolist() == [3, 0, 1, 4]
    assert b.tolist() == [1, 2, 6, 3, 5]


def chain(start: int) -> np.ndarray:
    """40 peaks, each of which overlaps the next."""
    return np.array([f"chr1:{start + 80 * i}-{start + 80 * i + 100}" for i in range(40)])


def test_peaks_of_one_file_are_left_as_they_are():
    names, (a,) = unify_peaks([chain(0)], "overlap")
    assert names.tolist() == chain(0).tolist()
    assert a.tolist() == list(range(40))


def test_peaks_of_shifted_files_pair_up_and_no_chain_swallows_the_rest():
    names, maps = unify_peaks([chain(0), chain(30), chain(60)], "overlap")
    assert names.tolist() == [f"chr1:{80 * i}-{80 * i + 160}" for i in range(40)]
    for its in maps:
        assert its.tolist() == list(range(40))
    for file in (chain(0), chain(30), chain(60)):
        assert place_peaks(file, names, "overlap").tolist() == list(range(40))


def test_the_same_peak_of_two_files_is_one_though_another_of_theirs_overlaps_it():
    files = [np.array(["chr1:0-10", "chr1:5-20"]), np.array(["chr1:5-20"])]
    names, (a, b) = unify_peaks(files, "overlap")
    assert names.tolist() == ["chr1:0-10", "chr1:5-20"]
    assert (a.tolist(), b.tolist()) == ([0, 1], [1])


@pytest.mark.parametrize(
    ("how", "expected", "a"),
    [
        ("exact", ["chr10:5-9"], [0, -1, -1, -1]),
        ("overlap", ["chr2:150-300", "chr10:5-9"], [1, -1, 0, -1]),
    ],
)
def test_the_intersection_has_the_peaks_of_every_file(how, expected, a):
    names, maps = unify_peaks([A, B], how, "intersection")
    assert names.tolist() == expected
    assert maps[0].tolist() == a


@st.composite
def files(draw) -> list[np.ndarray]:
    spans = st.tuples(
        st.sampled_from(["chr1", "chr2", "chrX_a"]), st.integers(0, 60), st.integers(1, 9)
    )
    sign = st.sampled_from([":-", "--", "__"])
    some = draw(
        st.lists(st.tuples(sign, st.lists(spans, min_size=1, max_size=12)), min_size=1, max_size=4)
    )
    return [
        np.array([f"{name}{one}{start}{two}{start + size}" for name, start, size in peaks])
        for (one, two), peaks in some
    ]


@few
@given(
    files=files(),
    how=st.sampled_from(["exact", "overlap"]),
    join=st.sampled_from(["union", "intersection"]),
)
def test_common_peaks_do_not_depend_on_the_order_of_files_or_peaks(files, how, join):
    names, maps = unify_peaks(files, how, join)
    turned = [peaks[::-1] for peaks in files[::-1]]
    other_names, other_maps = unify_peaks(turned, how, join)
    np.testing.assert_array_equal(names, other_names)
    for one, other in zip(maps, other_maps[::-1], strict=True):
        np.testing.assert_array_equal(one, other[::-1])


def intervals(names: np.ndarray) -> list[tuple[str, int, int]]:
    peaks = parse_peaks(names)
    chromosomes = [peaks.chromosomes[number] for number in peaks.chromosome]
    return list(zip(chromosomes, peaks.starts.tolist(), peaks.ends.tolist(), strict=True))


@few
@given(files=files())
def test_merged_peaks_hold_theirs_and_no_base_more(files):
    names, maps = unify_peaks(files, "overlap")
    merged = intervals(names)
    assert len(set(merged)) == len(merged)
    assert merged == sorted(merged)
    held = [set() for _ in merged]
    for peaks, its in zip(files, maps, strict=True):
        for (name, start, end), place in zip(intervals(peaks), its, strict=True):
            assert merged[place][0] == name
            held[place] |= set(range(start, end))
    assert held == [set(range(start, end)) for _, start, end in merged]


@few
@given(files=files())
def test_peaks_find_their_merged_peak_again_or_one_that_holds_them_as_well(files):
    names, maps = unify_peaks(files, "overlap")
    merged = intervals(names)
    for peaks, its in zip(files, maps, strict=True):
        again = place_peaks(peaks, names, "overlap")
        for (_, start, end), one, other in zip(intervals(peaks), its, again, strict=True):
            assert merged[other][1] <= start < end <= merged[other][2]
            assert merged[other][2] - merged[other][1] <= merged[one][2] - merged[one][1]


@few
@given(files=files())
def test_a_peak_finds_the_longest_overlap_in_a_given_list(files):
    vocabulary, peaks = np.unique(files[0]), np.concatenate(files)
    found = place_peaks(peaks, vocabulary, "overlap")
    exact = place_peaks(peaks, vocabulary, "exact")
    given_peaks = intervals(vocabulary)
    for place, same, (name, start, end) in zip(found, exact, intervals(peaks), strict=True):
        overlaps = [
            (min(end, other[2]) - max(start, other[1]) if other[0] == name else 0)
            for other in given_peaks
        ]
        # The shortest of the longest overlaps, of several such the first.
        best = [
            (shared, one[1] - one[2]) for shared, one in zip(overlaps, given_peaks, strict=True)
        ]
        assert place == (best.index(max(best)) if max(overlaps) > 0 else -1)
        assert same == (
            given_peaks.index((name, start, end)) if (name, start, end) in given_peaks else -1
        )


def test_of_equal_overlaps_the_shortest_and_then_the_first_of_the_list_is_taken():
    vocabulary = np.array(["chr1:150-200", "chr1:50-110", "chr1:90-100", "chr1:60-110"])
    peaks = np.array(["chr1:100-160", "chr2:1-5", "chr1:200-300"])
    assert place_peaks(peaks, vocabulary, "overlap").tolist() == [0, -1, -1]
    assert place_peaks(peaks, vocabulary[::-1], "overlap").tolist() == [0, -1, -1]
    assert place_peaks(peaks, vocabulary[1:3], "overlap").tolist() == [0, -1, -1]


def test_chromosomes_are_in_natural_order():
    chromosomes = ["chr1", "chr2", "chr10", "chrX", "chrY", "chrM"]
    chromosomes += [
        "chr1_GL000009v2_random",
        "chr1_KI2_random",
        "chr1_KI10_random",
        "GL1.1",
        "KI1.1",
    ]
    names = np.array([f"{chromosome}:1-2" for chromosome in chromosomes[::-1]])
    assert parse_peaks(names).chromosomes == chromosomes
    assert unify_peaks([names], "overlap")[0].tolist() == names[::-1].tolist()


def test_chromosomes_with_and_without_chr_are_refused():
    with pytest.raises(InputError, match="on 1, 2 in one file and on chr1, chr3 in another"):
        unify_peaks([np.array(["chr1:1-2", "chr3:1-2"]), np.array(["1:1-2", "2:1-2"])], "overlap")
    with pytest.raises(InputError, match="call chromosomes alike"):
        place_peaks(np.array(["1:1-2"]), np.array(["chr1:1-2"]), "exact")


@pytest.mark.skipif(not REAL.exists(), reason="needs the real data")
def test_real_peaks_are_read():
    names = ad.read_h5ad(REAL, backed="r").var_names.to_numpy(dtype=str)
    peaks = parse_peaks(names)
    assert peaks.chromosomes[:3] == ["chr1", "chr2", "chr3"]
    assert peaks.names[0] == "chr1:4914570-4914685"
    common, (mapped,) = unify_peaks([names], "exact")
    assert len(common) == len(names) == 25_734
    np.testing.assert_array_equal(common[mapped], peaks.names)
    merged, (mapped,) = unify_peaks([names], "overlap")
    np.testing.assert_array_equal(merged, common)
