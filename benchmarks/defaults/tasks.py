"""The tasks by their names."""

from benchmarks.defaults import images, physics, sequences, shapes, tables
from benchmarks.defaults.task import Task

TASKS = {
    "digits_cnn": Task("digits, a convolutional network with dropout", images.digits_cnn, 32, 12),
    "digits_few": Task("200 digits, a perceptron", images.digits_few, 10, 20),
    "cancer": Task("breast cancer, batch normalization", tables.cancer, 16, 15),
    "diabetes": Task("diabetes, standardized targets", tables.diabetes, 16, 20),
    "diabetes_raw": Task("diabetes, targets of about 152", tables.diabetes_raw, 16, 50),
    "categories": Task("categories and numbers, embeddings", tables.categories, 64, 6),
    "imbalanced": Task("one of thirty is positive", tables.imbalanced, 64, 8),
    "sequence": Task("the next value of a wave, a GRU", sequences.waves, 32, 8),
    "characters": Task("Python's sources, causal convolutions", sequences.characters, 32, 4),
    "bag": Task("topics of documents, a bag of embeddings", sequences.bag, 32, 8),
    "denoising": Task("digits in noise, an autoencoder", images.denoising, 32, 20),
    "physics": Task("Burgers' equation, a physics-informed network", physics.burgers, 64, 40),
    "photograph": Task("a photograph from its coordinates", images.photograph, 64, 20),
    "residual": Task("shapes in noise, a residual network", shapes.residual, 32, 4),
    "transformer": Task("rows of digits, a transformer", sequences.transformer, 32, 10),
}
