//! Mail between threads, executors and other runtimes.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::thread;

use drey_io::{
    mailbox::{Mailbox, NoReply, ReplySender, SendError, Sender, mailbox, reply},
    runtime::{ExecutorConfig, ExecutorContext, start},
};
use support::{join, one};

type Question = (u64, ReplySender<u64>);

/// Answers every question with its square, until all who ask are gone.
async fn answer(mut questions: Mailbox<Question>) -> u64 {
    let mut answered = 0;
    while let Some((number, reply)) = questions.receive().await {
        reply.send(number * number).unwrap();
        answered += 1;
    }
    answered
}

#[test]
fn a_plain_thread_wakes_an_executor_and_waits_for_its_answer() {
    const QUESTIONS: u64 = 500;
    let (sender, questions) = mailbox::<Question>(4);
    let executors = one(|_| answer(questions));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let sender = sender.clone();
            thread::spawn(move || {
                for number in 0..QUESTIONS {
                    let (give, answer) = reply();
                    sender.send_blocking((number, give)).unwrap();
                    assert_eq!(answer.wait(), Ok(number * number));
                }
            })
        })
        .collect();
    drop(sender);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(join(executors), [4 * QUESTIONS]);
}

#[test]
fn tokio_asks_an_executor() {
    const QUESTIONS: u64 = 500;
    let (sender, questions) = mailbox::<Question>(4);
    let executors = one(|_| answer(questions));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async move {
        let asking: Vec<_> = (0..QUESTIONS)
            .map(|number| {
                let sender = sender.clone();
                tokio::spawn(async move {
                    let (give, answer) = reply();
                    sender.send_when_free((number, give)).await.unwrap();
                    assert_eq!(answer.await, Ok(number * number));
                })
            })
            .collect();
        drop(sender);
        for asking in asking {
            asking.await.unwrap();
        }
    });
    assert_eq!(join(executors), [QUESTIONS]);
}

#[test]
fn executors_ask_each_other() {
    const QUESTIONS: u64 = 1_000;
    let mut mailboxes: Vec<(Sender<Question>, Mailbox<Question>)> = (0..2).map(|_| mailbox(64)).collect();
    let senders: Vec<_> = mailboxes.iter().map(|(sender, _)| sender.clone()).collect();
    let mut bodies = Vec::new();
    for (index, (own, questions)) in mailboxes.drain(..).enumerate() {
        drop(own);
        let other = senders[1 - index].clone();
        bodies.push(move |context: ExecutorContext| async move {
            assert_eq!((context.index, context.count), (index, 2));
            let ask = async move {
                for number in 0..QUESTIONS {
                    let (give, answer) = reply();
                    other.send_when_free((number, give)).await.unwrap();
                    assert_eq!(answer.await, Ok(number * number));
                }
            };
            futures_lite::future::zip(ask, answer(questions)).await.1
        });
    }
    drop(senders);
    let executors = start(&ExecutorConfig::new("ask"), bodies).unwrap();
    assert_eq!(join(executors), [QUESTIONS, QUESTIONS]);
}

#[test]
fn a_full_mailbox_refuses_and_a_closed_one_says_so() {
    let (sender, mut mail) = mailbox(2);
    sender.send(1).unwrap();
    sender.send(2).unwrap();
    assert_eq!((sender.send(3), sender.len()), (Err(SendError::Full(3)), 2));
    assert_eq!((mail.try_receive(), mail.try_receive(), mail.try_receive()), (Some(1), Some(2), None));
    sender.send(4).unwrap();
    drop(mail);
    assert_eq!(sender.send(5), Err(SendError::Closed(5)));
}

#[test]
fn an_answer_that_will_never_come_is_an_error() {
    let (give, answer) = reply::<()>();
    drop(give);
    assert_eq!(answer.wait(), Err(NoReply));
    let (give, answer) = reply();
    drop(answer);
    assert!(give.is_abandoned());
    assert_eq!(give.send(1), Err(1));
}
