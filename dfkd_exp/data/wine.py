"""A table that comes with scikit-learn: 178 wines from three growers, 13 measurements of each. No download."""

from __future__ import annotations

from dataclasses import dataclass

from dfkd_exp.data.array_data import ArrayData, Arrays


@dataclass
class Wine(ArrayData):
    """Every fifth wine (in the library's order) is the test set: 143 training and 35 test examples. Source: Forina et al. (1988)."""

    standardise: bool = True
    """Subtract the mean of each feature and divide by its deviation, as measured on the training examples."""

    def find(self) -> Arrays:
        import numpy as np
        from sklearn.datasets import load_wine

        bunch = load_wine()
        test = np.arange(len(bunch.target)) % 5 == 4
        return Arrays(
            {"train": bunch.data[~test], "test": bunch.data[test]},
            {"train": bunch.target[~test].astype(np.int64), "test": bunch.target[test].astype(np.int64)},
            [f"grower {number}" for number in (1, 2, 3)],
            [name.replace("_", " ") for name in bunch.feature_names],
            [],
        )
