"""The mathematics: pure functions of tensors, in operations of Keras."""
