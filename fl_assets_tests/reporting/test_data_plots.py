from fl_assets.reporting.data_plots import class_balance, correlation, distributions, missingness
from fl_assets.reporting.images import PALETTE


def test_class_balance_draws_a_bar_per_known_rate(look):
    shown = look(class_balance({"north": (140, 1700), "south": (70, 1700)}))
    hidden = look(class_balance({"north": (140, 1700), "south": (None, 1700)}))
    # The longer of two bars, 8 and 4 %, is two thirds of the blue.
    assert 0.6 < hidden.count(PALETTE[0]) / shown.count(PALETTE[0]) < 0.73


def test_class_balance_grows_with_the_hospitals(look):
    few = look(class_balance({"a": (1, 9)}))
    many = look(class_balance({f"hospital-{i}": (i, 100) for i in range(12)}))
    assert many.height > few.height + 300
    look(class_balance({}))
    look(class_balance({"nobody": (0, 0)}))


def test_missingness(look):
    none = look(missingness({"age": 0.0, "bmi": 0.0}, 5110))
    some = look(missingness({"age": 0.0, "bmi": 0.04}, 5110))
    assert none.count(PALETTE[1]) == 0
    assert some.count(PALETTE[1]) > 1000


def test_distributions_have_a_panel_per_column(look):
    histogram = ([0, 10, 40, 121], [30, 100, 7])
    one = look(distributions({"age": histogram}, {}, {"age": "years"}))
    both = look(distributions({"age": histogram}, {"smoker": {"no": 90, "yes": 47}}))
    assert one.count(PALETTE[2]) == 0
    assert both.count(PALETTE[2]) > 1000
    assert both.count(PALETTE[0]) > 1000
    four = look(distributions(dict.fromkeys("abcd", histogram), {}))
    assert four.height > both.height + 150
    look(distributions({}, {}))


def test_a_suppressed_count_is_not_drawn_as_a_number(look):
    full = look(distributions({}, {"flag": {"0": 100, "1": 100}}))
    hidden = look(distributions({}, {"flag": {"0": None, "1": 100}}))
    assert 0.4 < hidden.count(PALETTE[2]) / full.count(PALETTE[2]) < 0.6
    look(distributions({"age": ([0, 1, 2], [None, None])}, {}))


def test_ten_columns_of_a_real_cohort_stay_small(look):
    histogram = (list(range(11)), [100 + 7 * i for i in range(10)])
    cells = {f"a longer category {i}": 100 + i for i in range(5)}
    look(
        distributions(
            {f"number_{i}": histogram for i in range(5)}, {f"word_{i}": cells for i in range(7)}
        )
    )


def test_correlation_colours_signs_apart_and_leaves_the_unknown_grey(look):
    def picture(value):
        return look(correlation([[1.0, value], [value, 1.0]], ["age", "bmi"], 900)).pixels

    positive, negative, unknown = picture(0.9), picture(-0.9), picture(None)
    assert (positive != negative).any()
    assert (unknown == 0xD0).all(axis=-1).sum() > 1000
    look(correlation([], [], 0))
