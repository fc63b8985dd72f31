"""What of a network learns, and how fast: frozen layers of the tower, learning rates that fall towards its input."""

import keras


def set_trainable(model: keras.Model, *, tower: str, trainable: str | int) -> None:
    """Let the head learn, and of the tower all, nothing, or its last layers.

    What is frozen works as it does when predicting, if the model comes from `fuse`: batch normalisations keep their
    statistics, and nothing is dropped.

    Args:
        model: A network with a tower inside, see `boneage.models.build_model`.
        tower: Name of the tower.
        trainable: `"all"`, `"head"`, or the number of the tower's last layers, counted in layers with weights.
    """
    inside = model.get_layer(tower)
    inside.trainable = trainable != "head"
    if isinstance(trainable, int):
        first = next(iter(_layers_with_weights(inside)[-trainable:]), None)
        for layer in inside.layers:
            if layer is first:
                break
            layer.trainable = False


def learning_rate_factors(model: keras.Model, *, tower: str, layer_decay: float) -> list[float]:
    """Return what the learning rate of each trainable variable is multiplied by: 1 in the head, less in the tower.

    Args:
        model: A network with a tower inside.
        tower: Name of the tower.
        layer_decay: Factor in (0, 1] from each of the tower's layers with weights to the one below; the last layer
            has it once.
    """
    depths = {
        id(variable): depth
        for depth, layer in enumerate(reversed(_layers_with_weights(model.get_layer(tower))), start=1)
        for variable in layer.weights
    }
    return [layer_decay ** depths.get(id(variable), 0) for variable in model.trainable_variables]


def _layers_with_weights(tower: keras.Model) -> list[keras.layers.Layer]:
    return [layer for layer in tower.layers if layer.weights]
