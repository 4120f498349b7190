"""The network of `factory.yaml`."""

import keras


def tower(columns: int, width: int, depth: int, activation: str = "relu") -> keras.Model:
    """Equal layers on top of each other.

    Args:
        columns: number of inputs.
        width: units of each layer.
        depth: number of layers.
        activation: what the hidden layers apply. The remedy `leaky_relu` calls the function with
            this argument changed, because it bears this name and is relu otherwise.

    Returns:
        A model that is not compiled, so that the config's `compile` counts.
    """
    inputs = value = keras.Input((columns,))
    for _ in range(depth):
        layer = keras.layers.Dense(width, activation=activation, kernel_initializer="he_normal")
        value = layer(value)
    value = keras.layers.Dense(1)(value)
    # The sound levels are around 125 dB, give or take 7: the network need not learn that.
    return keras.Model(inputs, keras.layers.Rescaling(scale=7, offset=125)(value))
