"""The words that settings, statistics and the file share."""

BASES = ("units", "channels", "regions", "spectrum", "styles", "graph")
"""What a statistic is of: each unit of its layers by itself; each channel, all locations together; each channel in each window of a grid,
all locations of that together; the logarithm of the power of each frequency of each channel; the mean and log-deviation of each channel
within an image; or graph Fourier coefficients."""
WITHOUT_DRAWS = ("spectrum", "styles")
"""The bases from which no values of units follow."""
SCOPES = ("class", "all")
"""Of what images: those of each class by themselves, or all of them together."""
PIXELS = ("none", "moments", "spectrum")
SIGNALS = ("before_relu", "after_relu")
STORAGES = ("fp32", "fp16", "bf16", "int8")
GRAPHS = ("weights", "coactivation")
SUMMARIES = ("diagonal", "full", "low_rank", "separable", "shared", "records", "carried")
"""Forms of summaries that the format has."""
