//! Creates that were under way when their leader was killed, made again with their ids: each was applied once, and is answered
//! as it was applied, whether it had been proposed or not, answered or not.

#![allow(clippy::unwrap_used)]

mod processes;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use drey_client::proto::{Condition, PutRequest, PutResponse, RequestId, condition::Test};
use drey_client::{Bucket, Client, Scan};
use processes::Cluster;

const ROUNDS: u64 = 20;
const CREATES: u64 = 10;
const WITHIN: Duration = Duration::from_secs(60);

/// Between two creates: about as long as one takes, so that a kill finds some answered, some under way, some not sent.
const APART: Duration = Duration::from_millis(1);

/// An answer that a killed node has sent is read within this time, or counts as lost.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// Creates in one session.
#[derive(Clone, Copy)]
struct Creates {
    session: u64,
    /// The first of this round: those before are acknowledged.
    first: u64,
}

impl Creates {
    /// The value tells which attempt it was that was applied; the id is the same in all.
    fn request(self, sequence: u64, attempt: &'static str) -> PutRequest {
        PutRequest {
            key: format!("key{sequence:03}").into(),
            value: attempt.into(),
            condition: Some(Condition { test: Some(Test::VersionIs(0)) }),
            id: Some(RequestId { session: self.session, sequence, first_unacked: self.first }),
            ..PutRequest::default()
        }
    }
}

/// A client of these nodes alone.
fn client_of(addresses: Vec<String>) -> Client {
    Client::builder(addresses).timeout(WITHIN).discover(false).connect().unwrap()
}

/// Sends the round's creates to the leader, and kills it when so many are answered. Gives the answers that came.
async fn create_and_kill(
    cluster: &mut Cluster,
    leader: usize,
    creates: Creates,
    answered_before: usize,
) -> Vec<Option<PutResponse>> {
    let direct = client_of(vec![cluster.address(leader).to_owned()]);
    // Its connection is there before the first create.
    direct.status().await.unwrap();
    let answered = Arc::new(AtomicUsize::new(0));
    let attempts: Vec<_> = (0..CREATES)
        .map(|place| {
            let (bucket, answered) = (direct.bucket("default"), Arc::clone(&answered));
            tokio::spawn(async move {
                tokio::time::sleep(APART * u32::try_from(place).unwrap()).await;
                let answer = bucket.put_with(creates.request(creates.first + place, "first")).await.ok();
                answered.fetch_add(usize::from(answer.is_some()), Ordering::Relaxed);
                answer
            })
        })
        .collect();
    let deadline = Instant::now() + WITHIN;
    while answered.load(Ordering::Relaxed) < answered_before {
        assert!(Instant::now() < deadline, "creates are not answered\n{}", cluster.logs());
        tokio::task::yield_now().await;
    }
    cluster.kill(leader);
    let mut answers = Vec::new();
    let last_words = tokio::time::Instant::now() + LAST_WORDS;
    for mut attempt in attempts {
        let ended = tokio::time::timeout_at(last_words, &mut attempt).await;
        // Whoever was not answered tries its node again and again, and would find it when it is back.
        attempt.abort();
        answers.push(ended.ok().and_then(Result::unwrap));
    }
    answers
}

/// Makes all of a round's creates at once, until each is answered.
async fn create_all(bucket: &Bucket, creates: Creates, attempt: &'static str) -> Vec<PutResponse> {
    let all = creates.first..creates.first + CREATES;
    let one = |sequence| {
        let bucket = bucket.clone();
        tokio::spawn(async move { bucket.put_with(creates.request(sequence, attempt)).await.unwrap() })
    };
    let mut answers = Vec::new();
    for answer in all.map(one).collect::<Vec<_>>() {
        answers.push(answer.await.unwrap());
    }
    answers
}

/// What became of the first attempts.
#[derive(Debug, Default)]
struct Fates {
    answered: u64,
    applied_unanswered: u64,
    not_applied: u64,
}

#[test]
fn a_create_made_again_after_its_leader_was_killed_gets_the_first_answer_always() {
    // The creates go on while this thread waits for the killed process to end.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut cluster = Cluster::start();
        let session = client_of(cluster.addresses()).open_session("default").await.unwrap();
        let (mut fates, mut versions) = (Fates::default(), Vec::new());
        for round in 0..ROUNDS {
            let creates = Creates { session: session.session, first: 1 + round * CREATES };
            let leader = cluster.leader_of(session.group, WITHIN).await;
            let answered_before = usize::try_from(round % (CREATES / 2)).unwrap();
            let firsts = create_and_kill(&mut cluster, leader, creates, answered_before).await;
            let others: Vec<String> =
                cluster.running().into_iter().map(|node| cluster.address(node).to_owned()).collect();
            assert_eq!(others.len(), 2);
            let bucket = client_of(others).bucket("default");
            let seconds = create_all(&bucket, creates, "second").await;
            let thirds = create_all(&bucket, creates, "third").await;
            for (sequence, (first, (second, third))) in
                (creates.first..).zip(firsts.into_iter().zip(seconds.into_iter().zip(thirds)))
            {
                assert!(second.applied, "round {round}, create {sequence}: {second:?}\n{}", cluster.logs());
                assert_eq!(second, third, "round {round}, create {sequence}");
                assert!(first.as_ref().is_none_or(|first| *first == second), "{first:?}, then {second:?}");
                let entry = bucket.get(format!("key{sequence:03}")).await.unwrap().unwrap();
                assert_eq!(entry.version, second.version, "round {round}, create {sequence}");
                match (first, &entry.value[..]) {
                    (Some(_), b"first") => fates.answered += 1,
                    (None, b"first") => fates.applied_unanswered += 1,
                    (None, b"second") => fates.not_applied += 1,
                    fate => panic!("round {round}, create {sequence}: {fate:?}"),
                }
                versions.push((entry.key, entry.version));
            }
            cluster.start_node(leader);
            cluster.wait_until_reachable(leader, WITHIN).await;
        }
        let client = client_of(cluster.addresses());
        let entries = client.bucket("default").scan(Scan::default()).await.unwrap().collect().await.unwrap();
        let found: Vec<_> = entries.into_iter().map(|entry| (entry.key, entry.version)).collect();
        assert_eq!(found, versions, "each is there once, as it was answered");
        println!("{} creates of {} answered as they were first applied: {fates:?}", found.len(), ROUNDS * CREATES);
        assert_eq!(found.len() as u64, ROUNDS * CREATES);
        assert!(fates.answered < ROUNDS * CREATES, "every kill came too late: {fates:?}");
    });
}
