//! A connection whose peer has to take what it asked for: an answer that is not read holds memory.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// For as long an answer may wait for a peer that reads nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// A peer that reads more slowly than so many bytes in a second uses its patience up.
const RATE_MIN: u32 = 32 << 10;

pub(super) struct Connection<S> {
    stream: S,
    /// While something waits to be taken.
    overdue: Option<Pin<Box<Sleep>>>,
}

impl<S> Connection<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            overdue: None,
        }
    }

    fn limit<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            return polled;
        }
        let overdue = &mut self.overdue;
        let overdue = overdue.get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)));
        let over = overdue.as_mut().poll(context);
        over.map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    fn taken(&mut self, bytes: usize) {
        if let Some(overdue) = &mut self.overdue {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            let earned = Duration::from_secs(1) * bytes / RATE_MIN;
            let until = (overdue.deadline() + earned).min(Instant::now() + PATIENCE);
            overdue.as_mut().reset(until);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(taken)) = polled {
            self.taken(taken);
        }
        self.limit(polled, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        if let Poll::Ready(Ok(taken)) = polled {
            self.taken(taken);
        }
        self.limit(polled, context)
    }

    /// Otherwise every answer would be copied before it is sent.
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        if polled.is_ready() {
            self.overdue = None;
        }
        self.limit(polled, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.limit(polled, context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::task::JoinSet;

    use super::*;

    const ANSWER_BYTES: usize = 1 << 20;

    fn answer(to: DuplexStream) -> JoinSet<io::Result<()>> {
        let mut writing = JoinSet::new();
        writing.spawn(async move {
            let mut connection = Connection::new(to);
            connection.write_all(&vec![0; ANSWER_BYTES]).await
        });
        writing
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_a_byte_now_and_then_is_given_up_and_who_reads_slowly_is_not() {
        let (mut near, far) = tokio::io::duplex(1 << 10);
        let mut writing = answer(far);
        let began = Instant::now();
        let mut pace = tokio::time::interval(Duration::from_secs(2));
        let given_up = loop {
            tokio::select! {
                ended = writing.join_next() => break ended.unwrap().unwrap(),
                _ = pace.tick() => drop(near.read_u8().await),
            }
        };
        assert_eq!(given_up.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() < PATIENCE * 2);

        let (mut near, far) = tokio::io::duplex(RATE_MIN as usize);
        let mut writing = answer(far);
        let mut pace = tokio::time::interval(Duration::from_secs(1));
        let mut buffer = vec![0; RATE_MIN as usize];
        for _ in 0..ANSWER_BYTES / buffer.len() {
            pace.tick().await;
            near.read_exact(&mut buffer).await.unwrap();
        }
        assert!(writing.join_next().await.unwrap().unwrap().is_ok());
    }
}
