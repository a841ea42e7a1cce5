"""The workloads, of such sizes that a run takes 5 to 15 seconds on two cores."""

from benchmarks.race import images, others, shapes, tables
from benchmarks.race.workload import Workload

WORKLOADS = {
    "logistic": Workload("logistic regression, full batch", others.logistic, 0, 6_000, "loss"),
    "digits": Workload("digits, convolutions, batch norm", images.digits, 64, 800, "loss"),
    "curves": Workload("curves, deep autoencoder", images.autoencoder, 200, 1_600, "squared_error"),
    "addition": Workload("addition, recurrent network", others.sums, 100, 1_600, "loss"),
    "recommender": Workload("recommender, embeddings", others.recommender, 512, 1_600, "loss"),
    "text": Workload("text, small transformer", others.text, 16, 400, "loss"),
    "photograph": Workload("photograph, SIREN", images.photograph, 2_304, 1_600, "loss"),
    "shapes": Workload("shapes, residual network", shapes.residual, 64, 400, "cross_entropy"),
    "table": Workload("table, embeddings of categories", tables.table, 256, 1_600, "loss"),
}
