// A line an interval: tag, count, percentiles, buckets.
"use strict";
const fs = require("fs");
const hdr = require("hdr-histogram-js");

const reader = new hdr.HistogramLogReader(fs.readFileSync(process.argv[2], "utf8"), 64);
for (let histogram; (histogram = reader.nextIntervalHistogram()) !== null; ) {
  const quantiles = [50, 90, 99, 99.9, 100].map((q) => histogram.getValueAtPercentile(q));
  const buckets = [];
  // There is no iterator of recorded values that is public: every bucket is asked for its count.
  for (let index = 0; index < histogram.countsArrayLength; index++) {
    const count = histogram.getCountAtIndex(index);
    if (count > 0) {
      buckets.push(`${histogram.highestEquivalentValue(histogram.valueFromIndex(index))}:${count}`);
    }
  }
  console.log([histogram.tag, histogram.totalCount, ...quantiles, buckets.join(",")].join(" "));
}
