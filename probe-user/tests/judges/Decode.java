import java.io.File;
import java.util.ArrayList;
import org.HdrHistogram.EncodableHistogram;
import org.HdrHistogram.Histogram;
import org.HdrHistogram.HistogramIterationValue;
import org.HdrHistogram.HistogramLogReader;

/** A line an interval: tag, count, percentiles, buckets. */
class Decode {
    public static void main(String[] arguments) throws Exception {
        HistogramLogReader reader = new HistogramLogReader(new File(arguments[0]));
        EncodableHistogram next;
        while ((next = reader.nextIntervalHistogram()) != null) {
            Histogram histogram = (Histogram) next;
            StringBuilder line = new StringBuilder(histogram.getTag() + " " + histogram.getTotalCount());
            for (double percentile : new double[] {50, 90, 99, 99.9, 100}) {
                line.append(" ").append(histogram.getValueAtPercentile(percentile));
            }
            ArrayList<String> buckets = new ArrayList<>();
            for (HistogramIterationValue value : histogram.recordedValues()) {
                buckets.add(value.getValueIteratedTo() + ":" + value.getCountAtValueIteratedTo());
            }
            System.out.println(line + " " + String.join(",", buckets));
        }
    }
}
