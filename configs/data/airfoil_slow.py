"""Make `airfoil_slow.keras`, the model that `retrain.yaml` trains further.

python configs/data/airfoil_slow.py
"""

from pathlib import Path

import keras
import numpy as np

HERE = Path(__file__).parent


def main() -> None:
    """Train on the measurements at wind speeds up to 55.5 m/s, and save the model."""
    keras.utils.set_random_seed(0)
    table = np.loadtxt(HERE / "airfoil_self_noise.csv", delimiter=",", skiprows=1)
    slow = table[table[:, 3] < 70]
    x, y = slow[:, :5].astype("float32"), slow[:, 5].astype("float32")
    standardize = keras.layers.Normalization()
    standardize.adapt(x)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            standardize,
            keras.layers.Dense(32, activation="relu", kernel_initializer="he_normal"),
            keras.layers.Dense(32, activation="relu", kernel_initializer="he_normal"),
            keras.layers.Dense(1),
        ]
    )
    model.compile(optimizer=keras.optimizers.Adam(learning_rate=0.01), loss="mse")
    model.fit(x, y, batch_size=32, epochs=60, verbose=0)
    model.save(HERE / "airfoil_slow.keras")


if __name__ == "__main__":
    main()
