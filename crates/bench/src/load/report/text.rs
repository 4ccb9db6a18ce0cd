//! A report as people read it.

use std::fmt;

use super::{Failed, Part, Report, Server};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pace = match self.rate {
            Some(rate) => match self.arrivals.as_deref() {
                None | Some("constant") => format!("open loop at {rate:.0}/s"),
                Some(what) => format!("open loop at {rate:.0}/s ({what})"),
            },
            None => "closed loop".to_owned(),
        };
        writeln!(f, "target        {}", self.target)?;
        writeln!(
            f,
            "load          {pace}, {} clients{}, {} thread(s), {:.2} s{}{}",
            self.clients,
            if self.streams > 1 {
                format!(" of {} streams", self.streams)
            } else {
                String::new()
            },
            self.threads,
            self.seconds,
            if self.chain > 1 {
                format!(", chains of {}", self.chain)
            } else {
                String::new()
            },
            if self.keep_alive {
                ""
            } else {
                ", a connection each"
            }
        )?;
        writeln!(
            f,
            "requests      {} sent, {} ok, {} failed",
            self.sent, self.ok, self.failed.total
        )?;
        if self.failed.total > 0 {
            writeln!(f, "failed        {}", self.failed)?;
        }
        writeln!(
            f,
            "rate          {:.0} good answers/s",
            self.requests_per_second
        )?;
        let latency = &self.latency_us;
        writeln!(
            f,
            "latency µs    min {:.0}  p50 {:.0}  p90 {:.0}  p99 {:.0}  p99.9 {:.0}  max {:.0}",
            latency.min, latency.p50, latency.p90, latency.p99, latency.p999, latency.max
        )?;
        for part in &self.targets {
            writeln!(f, "              {part}")?;
        }
        if self.retransmissions + self.id_collisions + self.malformed + self.reconnects > 0 {
            writeln!(
                f,
                "wire          {} retransmissions, {} id collisions, {} malformed, {} reconnects",
                self.retransmissions, self.id_collisions, self.malformed, self.reconnects
            )?;
        }
        if let Some(server) = &self.server {
            writeln!(f, "server        {server}")?;
        }
        write!(
            f,
            "generator     {:.0} % of its threads, {:.0} % waiting for a processor, {:.1} µs CPU/request",
            self.generator.cpu_share * 100.0,
            self.generator.starved_share * 100.0,
            self.generator.cpu_us_per_request
        )?;
        if self.rate.is_some() {
            write!(
                f,
                ", longest lag {:.0} µs, {} late",
                self.generator.lag_us_max, self.generator.late
            )?;
        }
        writeln!(f)?;
        writeln!(f, "fell behind   {}", self.fell_behind)?;
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        write!(f, "{}", self.environment)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} sent, {} ok, {} failed, p50 {:.0}, p99 {:.0}",
            self.target,
            self.sent,
            self.ok,
            self.failed.total,
            self.latency_us.p50,
            self.latency_us.p99
        )
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fixed = [
            ("timeout", self.timeout),
            ("wrong body", self.wrong_body),
            ("transport", self.transport),
            ("not sent", self.unsent),
        ];
        let named = fixed
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count));
        let status = self
            .status
            .iter()
            .map(|(status, count)| (format!("status {status}"), *count));
        let parts: Vec<String> = named
            .chain(status)
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        f.write_str(&parts.join(", "))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes =
            |value: Option<f64>| value.map_or("unknown".to_owned(), |mb| format!("{mb:.1}"));
        write!(
            f,
            "{:.1} µs CPU/request ({:.2} s, {} process(es)), PSS {} -> {} MB",
            self.cpu_us_per_request,
            self.cpu_seconds,
            self.processes,
            megabytes(self.pss_mb_before),
            megabytes(self.pss_mb_after)
        )
    }
}
