//! Merges runs in the order of their lines' times, opening each when its time comes. Reads no object itself.

use std::{cmp::Reverse, collections::BinaryHeap};

use k8s_openapi::jiff::Timestamp;

use super::{Failure, Planned, Reader, show::Output, source::Source};

/// Shows all lines of these sources; gives the sources back, read to their ends.
pub async fn merge(
    reader: &Reader,
    planned: Vec<Planned>,
    output: &mut Output,
) -> Result<Vec<Source>, Failure> {
    // By the time of the next line, and of lines with the same time in the order of the sources.
    let mut heap: BinaryHeap<Reverse<(Timestamp, usize)>> = BinaryHeap::new();
    let mut waiting: Vec<bool> = Vec::new();
    let mut sources: Vec<Source> = Vec::new();
    for (index, Planned { source, begins, .. }) in planned.into_iter().enumerate() {
        sources.push(source);
        waiting.push(true);
        // Of which nobody knows when it begins, it begins now.
        heap.push(Reverse((begins.unwrap_or(Timestamp::MIN), index)));
    }
    let mut buffer = Vec::new();
    let mut open = 0;
    while let Some(Reverse((_, index))) = heap.pop() {
        let source = &mut sources[index];
        if std::mem::take(&mut waiting[index]) {
            open += 1;
            source.advance(reader, &mut buffer, open).await?;
        } else {
            let next = heap.peek().map(|Reverse((time, _))| *time);
            show(reader, source, next, &mut buffer, open, output).await?;
        }
        output.progress(source.take_fetched());
        match source.head() {
            Some(next) => heap.push(Reverse((next.time, index))),
            None => open -= 1,
        }
    }
    Ok(sources)
}

/// Shows the lines of a source up to the time at which another one has its next.
async fn show(
    reader: &Reader,
    source: &mut Source,
    next: Option<Timestamp>,
    buffer: &mut Vec<u8>,
    open: usize,
    output: &mut Output,
) -> Result<(), Failure> {
    while let Some(head) = source.take_head() {
        output.write(&head)?;
        *buffer = head.bytes;
        if !source.try_advance(buffer) {
            output.progress(source.take_fetched());
            source.advance(reader, buffer, open).await?;
        }
        let is_turn_of_another = source
            .head()
            .is_some_and(|head| next.is_some_and(|next| head.time > next));
        if is_turn_of_another {
            break;
        }
    }
    Ok(())
}
