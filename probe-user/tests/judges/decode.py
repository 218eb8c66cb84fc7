"""A line an interval: tag, count, percentiles, buckets."""
import sys

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

reader = HistogramLogReader(sys.argv[1], HdrHistogram(1, 2**40, 2))
while (histogram := reader.get_next_interval_histogram()) is not None:
    quantiles = [str(histogram.get_value_at_percentile(q)) for q in (50, 90, 99, 99.9, 100)]
    buckets = [
        f"{item.value_iterated_to}:{item.count_at_value_iterated_to}"
        for item in histogram.get_recorded_iterator()
    ]
    print(histogram.get_tag(), histogram.get_total_count(), *quantiles, ",".join(buckets))
