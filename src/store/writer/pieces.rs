//! Messages that are too large for one statement: their payloads go to the table `uploads` in pieces, each a statement that is
//! answered, and from there to `messages`, all in one transaction.

use tokio_postgres::{Client, Error, Statement};

use super::messages::Columns;
use super::pipeline::{Parameters, Pipeline};
use super::{Failure, Transaction};
use crate::clock::Clock;
use crate::core::time::Instant;
use crate::core::upload::UploadWindow;

const STAGE: &str = "INSERT INTO uploads (message, piece, data)
    SELECT * FROM unnest($1::int4[], $2::int4[], $3::bytea[])";

const INSERT: &str = "INSERT INTO messages
        (channel_id, sequence, published_at_ns, epoch, client_id, guid, reply, data, encrypted)
    SELECT channel_id, sequence, published_at_ns, $1, client_id, guid, reply,
        coalesce((SELECT string_agg(u.data, ''::bytea ORDER BY u.piece) FROM uploads u WHERE u.message = t.number), ''::bytea),
        $8
    FROM unnest($2::int8[], $3::int8[], $4::int8[], $5::text[], $6::text[], $7::text[])
        WITH ORDINALITY AS t (channel_id, sequence, published_at_ns, client_id, guid, reply, number)";

const CLEAR: &str = "DELETE FROM uploads";

#[derive(Debug)]
pub(super) struct Statements {
    stage: Statement,
    insert: Statement,
    clear: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            stage: client.prepare(STAGE).await?,
            insert: client.prepare(INSERT).await?,
            clear: client.prepare(CLEAR).await?,
        })
    }

    /// In the caller's transaction. `answered` is called for each answer, with when its question was sent.
    pub(super) async fn upload(
        &self,
        client: &Client,
        messages: &Columns<'_>,
        window: &mut UploadWindow,
        answered: &(dyn Fn(Instant) + Send + Sync),
    ) -> Result<(), Failure> {
        let mut rest = Pieces::of(messages);
        loop {
            let (number, piece, data) = rest.take(window.bytes());
            if data.is_empty() {
                return Ok(());
            }
            let bytes = data.iter().map(|data| data.len()).sum();
            let sent = Clock.now().monotonic;
            let mut pipeline = Pipeline::new(client);
            let rows = Some(data.len());
            pipeline.add(&self.stage, vec![&number, &piece, &data], "messages", rows);
            pipeline.execute(Transaction::Callers).await?;
            let now = Clock.now().monotonic;
            window.carried(bytes, now.since(sent));
            answered(sent);
        }
    }

    pub(super) fn add_to<'f>(&'f self, messages: &'f Columns<'_>, pipeline: &mut Pipeline<'f>) {
        let parameters: Parameters<'_> = messages.without_data();
        pipeline.add(&self.insert, parameters, "messages", Some(messages.len()));
        pipeline.add(&self.clear, Vec::new(), "messages", None);
    }
}

/// What is still to be sent.
struct Pieces<'a> {
    payloads: Vec<&'a [u8]>,
    message: usize,
    piece: i32,
    offset: usize,
}

impl<'a> Pieces<'a> {
    fn of(messages: &Columns<'a>) -> Self {
        Self {
            payloads: messages.payloads().to_vec(),
            message: 0,
            piece: 0,
            offset: 0,
        }
    }

    /// So many bytes of it: the number of the message, of the piece, and the bytes, three columns.
    fn take(&mut self, bytes: usize) -> (Vec<i32>, Vec<i32>, Vec<&'a [u8]>) {
        let (mut numbers, mut pieces, mut data) = (Vec::new(), Vec::new(), Vec::new());
        let mut room = bytes.max(1);
        while room > 0 {
            let Some(payload) = self.payloads.get(self.message) else {
                break;
            };
            let end = payload.len().min(self.offset + room);
            if end > self.offset {
                numbers.push(i32::try_from(self.message + 1).unwrap_or(i32::MAX));
                pieces.push(self.piece);
                data.push(&payload[self.offset..end]);
                room -= end - self.offset;
                self.piece += 1;
            }
            if end == payload.len() {
                (self.message, self.piece, self.offset) = (self.message + 1, 0, 0);
            } else {
                self.offset = end;
            }
        }
        (numbers, pieces, data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_as_large_as_there_is_room_and_all_of_every_payload_is_in_them() {
        let payloads: Vec<&[u8]> = vec![b"abcdefg", b"", b"hi", b"jklm"];
        let mut pieces = Pieces {
            payloads,
            message: 0,
            piece: 0,
            offset: 0,
        };
        assert_eq!(pieces.take(5), (vec![1], vec![0], vec![&b"abcde"[..]]));
        assert_eq!(
            pieces.take(5),
            (vec![1, 3, 4], vec![1, 0, 0], vec![&b"fg"[..], b"hi", b"j"])
        );
        assert_eq!(pieces.take(5), (vec![4], vec![1], vec![&b"klm"[..]]));
        assert!(pieces.take(5).2.is_empty());
    }
}
