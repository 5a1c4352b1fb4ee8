//! The table in Prometheus's text format.

use prometheus::proto::{
    Counter, Gauge, LabelPair, Metric as Sample, MetricFamily, MetricType, Quantile, Summary,
};
use prometheus::{Encoder, TextEncoder};

use super::{Distribution, Metric, Value};

/// MIME type of [`text`].
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The label that tells the members of a set apart, as in ZooKeeper.
const KEY: &str = "key";

/// The rows, in their order, as a scraper reads them.
///
/// # Errors
/// A row that is none: the same name twice in a label, for instance. Never for the rows of this server.
pub(super) fn text(rows: &[Metric]) -> Result<Vec<u8>, prometheus::Error> {
    let families: Vec<MetricFamily> =
        rows.iter().map(family).filter(|f| !f.get_metric().is_empty()).collect();
    let mut text = Vec::new();
    TextEncoder::new().encode(&families, &mut text)?;
    Ok(text)
}

fn family(row: &Metric) -> MetricFamily {
    let Metric { name, help, value } = row;
    let (name, kind, samples) = match value {
        Value::Text(text) => {
            let mut sample = gauge(1.0);
            sample.set_label(vec![label(name, text)]);
            (format!("ostler_{name}"), MetricType::GAUGE, vec![sample])
        }
        Value::Gauge(number) => ((*name).to_owned(), MetricType::GAUGE, vec![gauge(number.as_f64())]),
        Value::Counter(number) => {
            let mut counter = Counter::default();
            counter.set_value(number.as_f64());
            let mut sample = Sample::default();
            sample.set_counter(counter);
            ((*name).to_owned(), MetricType::COUNTER, vec![sample])
        }
        Value::Gauges(gauges) => {
            let samples = gauges.iter().map(|(key, number)| {
                let mut sample = gauge(number.as_f64());
                sample.set_label(vec![label(KEY, key)]);
                sample
            });
            ((*name).to_owned(), MetricType::GAUGE, samples.collect())
        }
        Value::Basic(all) => {
            ((*name).to_owned(), MetricType::SUMMARY, vec![summary(all, &[(0.5, all.recent.p50)])])
        }
        Value::Advanced(all) => {
            let recent = &all.recent;
            let quantiles = [(0.5, recent.p50), (0.9, recent.p90), (0.99, recent.p99)];
            ((*name).to_owned(), MetricType::SUMMARY, vec![summary(all, &quantiles)])
        }
    };
    let mut family = MetricFamily::default();
    family.set_name(name);
    family.set_help((*help).to_owned());
    family.set_field_type(kind);
    family.set_metric(samples);
    family
}

fn gauge(value: f64) -> Sample {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    Sample::from_gauge(gauge)
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value.to_owned());
    label
}

fn summary(all: &Distribution, quantiles: &[(f64, f64)]) -> Sample {
    let quantiles = quantiles.iter().map(|&(at, value)| {
        let mut quantile = Quantile::default();
        quantile.set_quantile(at);
        quantile.set_value(value);
        quantile
    });
    let mut summary = Summary::default();
    summary.set_sample_count(all.count);
    summary.set_sample_sum(all.sum);
    summary.set_quantile(quantiles.collect());
    let mut sample = Sample::default();
    sample.set_summary(summary);
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_form() {
        let text = String::from_utf8(text(&super::super::tests::one_of_each()).unwrap()).unwrap();
        assert_eq!(
            text,
            "# HELP ostler_server_state What this server is\n\
             # TYPE ostler_server_state gauge\n\
             ostler_server_state{server_state=\"standalone\"} 1\n\
             # HELP znode_count Znodes\n\
             # TYPE znode_count gauge\n\
             znode_count 9\n\
             # HELP avg_latency Average, milliseconds\n\
             # TYPE avg_latency gauge\n\
             avg_latency 0.6186\n\
             # HELP last_client_response_size Bytes\n\
             # TYPE last_client_response_size gauge\n\
             last_client_response_size -1\n\
             # HELP connection_rejected Connections turned away\n\
             # TYPE connection_rejected counter\n\
             connection_rejected 1\n\
             # HELP quota_count_limit_per_namespace Limit\n\
             # TYPE quota_count_limit_per_namespace gauge\n\
             quota_count_limit_per_namespace{key=\"a\"} 7\n\
             quota_count_limit_per_namespace{key=\"b\\\"\\\\\"} -1\n\
             # HELP fsynctime Time of an fsync, milliseconds\n\
             # TYPE fsynctime summary\n\
             fsynctime{quantile=\"0.5\"} 1.5\n\
             fsynctime_sum 5.25\n\
             fsynctime_count 4\n\
             # HELP readlatency Latency, milliseconds\n\
             # TYPE readlatency summary\n\
             readlatency{quantile=\"0.5\"} 1.5\n\
             readlatency{quantile=\"0.9\"} 2.5\n\
             readlatency{quantile=\"0.99\"} 4\n\
             readlatency_sum 5.25\n\
             readlatency_count 4\n"
        );
    }
}
