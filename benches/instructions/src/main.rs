//! Drives the core, or the protocol, through one kind of work, the same in each run: `stanby-instructions publish 2000`.
//! `scripts/instructions` counts what it takes.

// Mounted, not linked: the library with its adapters takes minutes to build. Not all of it is used here.
#[allow(dead_code, unused_imports)]
#[path = "../../../src/core/mod.rs"]
mod core;

// Of the protocol what is read and written for each message.
#[allow(dead_code, unused_imports)]
#[path = "../../../src/protocol/decode.rs"]
mod decode;
#[allow(dead_code, unused_imports)]
#[path = "../../../src/protocol/encode.rs"]
mod encode;
#[allow(dead_code, unused_imports)]
#[path = "../../../src/protocol/pb.rs"]
mod pb;
#[allow(dead_code, unused_imports)]
#[path = "../../../src/protocol/publish.rs"]
mod publish;
#[allow(dead_code, unused_imports)]
#[path = "../../../src/protocol/rejection.rs"]
mod rejection;
#[allow(dead_code, unused_imports)]
#[path = "../../../src/protocol/subjects.rs"]
mod subjects;

mod payloads;
mod takeover;
mod world;

use std::process::ExitCode;

use world::World;

/// Publishes that a commit carries.
const BATCH: usize = 100;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, count] = arguments.as_slice() else {
        return usage();
    };
    let Ok(count) = count.parse() else {
        return usage();
    };
    let mut world = match what.as_str() {
        "publish" => World::new(None),
        "publish-at-limit" => World::new(Some(BATCH as u64)),
        "deliver-and-ack" => {
            let mut world = World::new(None);
            world.subscribe(1, None);
            world
        }
        "ack-every-second" => {
            let mut world = World::new(None);
            world.max_in_flight = 100_000;
            world.subscribe(1, None);
            world.acks_odd = false;
            world
        }
        "fan-out-to-10" => {
            let mut world = World::new(None);
            world.subscribe(10, None);
            world
        }
        "queue-group-of-10" => {
            let mut world = World::new(None);
            world.subscribe(10, Some("workers"));
            world
        }
        "redeliver" => {
            let mut world = World::new(None);
            world.subscribe(1, None);
            world.acks = false;
            world.publish(BATCH);
            world.redeliver(count);
            return ExitCode::SUCCESS;
        }
        "take-over-ranges" => {
            takeover::restore(count);
            return ExitCode::SUCCESS;
        }
        "read-a-publish" => {
            payloads::read_publishes(count);
            return ExitCode::SUCCESS;
        }
        "read-an-ack" => {
            payloads::read_acks(count);
            return ExitCode::SUCCESS;
        }
        "write-an-ack" => {
            payloads::write_acks(count);
            return ExitCode::SUCCESS;
        }
        "write-a-delivery" => {
            payloads::write_deliveries(count);
            return ExitCode::SUCCESS;
        }
        _ => return usage(),
    };
    for _ in 0..count / BATCH {
        world.publish(BATCH);
    }
    world.ensure_all_went();
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!(
        "stanby-instructions WORK COUNT, with one of: publish, publish-at-limit, deliver-and-ack, fan-out-to-10, \
         queue-group-of-10, redeliver, ack-every-second, take-over-ranges, \
         read-a-publish, read-an-ack, write-an-ack, write-a-delivery"
    );
    ExitCode::from(2)
}
