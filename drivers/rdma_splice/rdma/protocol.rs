// SPDX-License-Identifier: GPL-2.0

//! The wire protocol, without any input or output: see
//! Documentation/filesystems/splice-rdma.rst, "The wire protocol".

use kernel::{page::PAGE_SIZE, prelude::*, rdma::HEADER_BYTES};

/// The bytes `RSPL`, as a little endian number.
const MAGIC: u32 = 0x4c50_5352;
const VERSION: u16 = 1;

/// The largest depth and the largest segment of an offer.
const MOST_DEPTH: u16 = 4096;
const MOST_SEGMENT: u32 = 16 << 20;

/// The number of receives for messages without data: one with `ASK`, and one with only `ANSWER`.
pub(crate) const CONTROL: usize = 2;

/// The data of this direction ends.
const FIN: u32 = 1 << 0;
/// The receiver must answer.
const ASK: u32 = 1 << 1;
/// An answer.
const ANSWER: u32 = 1 << 2;

/// The limits of a receiving side, which are the private data of a connection.
#[derive(Clone, Copy, Default)]
pub(crate) struct Offer {
    /// The number of messages with data.
    pub(crate) depth: u16,
    /// The number of bytes of data in a message.
    pub(crate) segment: u32,
}

impl Offer {
    pub(crate) const BYTES: usize = 12;

    /// Returns the private data.
    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.depth.to_le_bytes());
        bytes[8..].copy_from_slice(&self.segment.to_le_bytes());
        bytes
    }

    /// Reads private data, which may have more bytes. Returns `None` if it is not correct.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<{ Self::BYTES }>()?;
        let magic = u32::from_le_bytes(*bytes.first_chunk()?);
        let version = u16::from_le_bytes([bytes[4], bytes[5]]);
        let depth = u16::from_le_bytes([bytes[6], bytes[7]]);
        let segment = u32::from_le_bytes(*bytes.last_chunk()?);
        let correct = magic == MAGIC
            && version == VERSION
            && (1..=MOST_DEPTH).contains(&depth)
            // CAST: A page has fewer bytes than a u32 can count.
            && (PAGE_SIZE as u32..=MOST_SEGMENT).contains(&segment)
            && segment % PAGE_SIZE as u32 == 0;
        correct.then_some(Self { depth, segment })
    }
}

/// The header of a message.
#[derive(Clone, Copy)]
pub(crate) struct Header {
    length: u32,
    flags: u32,
    taken: u64,
}

impl Header {
    pub(crate) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.flags.to_le_bytes());
        bytes[8..].copy_from_slice(&self.taken.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8; HEADER_BYTES]) -> Self {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Self {
            length: word(0),
            flags: word(4),
            taken: u64::from(word(8)) | u64::from(word(12)) << 32,
        }
    }
}

/// The state of the protocol at one side.
///
/// Messages with data are counted from the start of the connection, in each direction.
pub(crate) struct Protocol {
    /// What this side can receive.
    own: Offer,
    /// What this side sends: the segment, and the number of messages that are not taken.
    send: Offer,
    /// The largest number of messages that this side sends and that are not taken.
    window: u16,
    /// The largest segment that this side sends.
    segment: u32,
    /// This side may send: it connected, or has received a message.
    started: bool,

    /// The number of messages that were sent.
    sent: u64,
    /// The number of messages that the peer's reader has taken.
    sent_taken: u64,
    /// The bytes of these.
    bytes_taken: u64,
    /// The lengths of the messages that are not taken. Message `n` is at `n % lengths.len()`.
    lengths: KVec<u32>,

    /// The number of messages that were received.
    received: u64,
    /// The number of messages that the own reader has taken, and whose receives are posted again.
    taken: u64,
    /// The last number of these that was sent.
    taken_sent: u64,

    /// A message with `ASK` is to be sent as soon as possible.
    ask_wanted: bool,
    /// A message with `ASK` is not answered yet.
    ask_open: bool,
    /// The peer's `ASK` is not answered yet.
    answer_due: bool,
    fin_wanted: bool,
    fin_sent: bool,
    fin_received: bool,
}

impl Protocol {
    /// Creates the state for a side that can receive `own`, and that sends segments of at most
    /// `segment` bytes, of which at most `window` are not taken.
    ///
    /// Returns [`ENOMEM`] if there is no memory.
    pub(crate) fn new(own: Offer, window: u16, segment: u32) -> Result<Self> {
        let mut lengths = KVec::with_capacity(window.into(), GFP_KERNEL)?;
        for _ in 0..window {
            lengths.push(0, GFP_KERNEL)?;
        }
        Ok(Self {
            own,
            send: Offer::default(),
            window,
            segment,
            started: false,
            sent: 0,
            sent_taken: 0,
            bytes_taken: 0,
            lengths,
            received: 0,
            taken: 0,
            taken_sent: 0,
            ask_wanted: false,
            ask_open: false,
            answer_due: false,
            fin_wanted: false,
            fin_sent: false,
            fin_received: false,
        })
    }

    /// Notes what the peer can receive.
    pub(crate) fn set_peer(&mut self, offer: Offer) {
        self.send = Offer {
            depth: offer.depth.min(self.window),
            segment: offer.segment.min(self.segment),
        };
    }

    /// Notes that this side connected, so that it sends the first message.
    pub(crate) fn start(&mut self) {
        self.started = true;
        self.ask_wanted = true;
    }

    pub(crate) fn is_started(&self) -> bool {
        self.started
    }

    /// Returns what this side sends at most.
    pub(crate) fn send_limits(&self) -> Offer {
        self.send
    }

    /// Returns what this side receives at most.
    pub(crate) fn receive_limits(&self) -> Offer {
        self.own
    }

    pub(crate) fn bytes_taken(&self) -> u64 {
        self.bytes_taken
    }

    pub(crate) fn fin_wanted(&self) -> bool {
        self.fin_wanted
    }

    pub(crate) fn fin_sent(&self) -> bool {
        self.fin_sent
    }

    pub(crate) fn fin_received(&self) -> bool {
        self.fin_received
    }

    /// Returns whether the peer has taken all messages that were sent.
    pub(crate) fn all_taken(&self) -> bool {
        self.sent == self.sent_taken
    }

    /// Returns whether the peer knows everything: the count of taken messages, the end of the own
    /// data, and an answer.
    pub(crate) fn is_told(&self) -> bool {
        self.taken == self.taken_sent && !self.answer_due && self.fin_wanted == self.fin_sent
    }

    /// Returns whether `more` messages with data can be sent.
    pub(crate) fn has_credit(&self, more: u64) -> bool {
        self.started
            && !self.fin_wanted
            && self.sent + more <= self.sent_taken + u64::from(self.send.depth)
    }

    /// Notes that the own data ends.
    pub(crate) fn end_data(&mut self) {
        self.fin_wanted = true;
    }

    /// Notes that no message has arrived for some time.
    pub(crate) fn keep_alive(&mut self) {
        if self.started && !self.ask_open {
            self.ask_wanted = true;
        }
    }

    /// Notes that the reader has taken a message completely, and that its receive is posted again.
    pub(crate) fn message_taken(&mut self) {
        self.taken += 1;
    }

    fn header(&self, length: u32, flags: u32) -> Header {
        Header {
            length,
            flags: flags | if self.answer_due { ANSWER } else { 0 },
            taken: self.taken,
        }
    }

    /// Notes that a message with the header was sent.
    pub(crate) fn posted(&mut self, header: Header) {
        if header.length > 0 {
            let place = (self.sent % self.lengths.len() as u64) as usize;
            self.lengths[place] = header.length;
            self.sent += 1;
        }
        self.taken_sent = header.taken;
        if header.flags & ANSWER != 0 {
            self.answer_due = false;
        }
        if header.flags & ASK != 0 {
            self.ask_open = true;
            self.ask_wanted = false;
        }
        if header.flags & FIN != 0 {
            self.fin_sent = true;
        }
    }

    /// Returns the header of a message with `length` bytes of data.
    pub(crate) fn data(&self, length: u32) -> Header {
        self.header(length, 0)
    }

    /// Returns the header of the next message without data, if one is due. `fin` tells whether all
    /// data was sent, so that the data can end.
    pub(crate) fn control(&self, fin: bool) -> Option<Header> {
        if !self.started {
            return None;
        }
        let fin = fin && self.fin_wanted && !self.fin_sent;
        let ask = self.ask_wanted || self.taken != self.taken_sent || fin;
        let mut flags = 0;
        if ask && !self.ask_open {
            flags |= ASK;
            if fin {
                flags |= FIN;
            }
        }
        let header = self.header(0, flags);
        (header.flags != 0).then_some(header)
    }

    /// Handles a message of `bytes` bytes. Returns the number of bytes of data in it.
    ///
    /// Returns [`EPROTO`] if the message violates the protocol.
    pub(crate) fn receive(&mut self, header: &[u8; HEADER_BYTES], bytes: usize) -> Result<u32> {
        let Header {
            length,
            flags,
            taken,
        } = Header::parse(header);
        let (fin, ask, answer) = (flags & FIN != 0, flags & ASK != 0, flags & ANSWER != 0);
        let data = length > 0;
        // CAST: A u32 fits in a usize.
        let correct = bytes >= HEADER_BYTES
            && bytes - HEADER_BYTES == length as usize
            && length <= self.own.segment
            && flags & !(FIN | ASK | ANSWER) == 0
            && !(data && ask)
            && (data || ask || answer)
            && !(self.fin_received && (data || fin))
            && !(answer && !self.ask_open)
            && !(ask && self.answer_due)
            // The side that connects speaks first, without data.
            && (self.started || (ask && !data))
            && !(data && self.received >= self.taken_sent + u64::from(self.own.depth))
            && (self.sent_taken..=self.sent).contains(&taken);
        if !correct {
            return Err(EPROTO);
        }
        self.started = true;
        self.received += u64::from(data);
        while self.sent_taken < taken {
            let place = (self.sent_taken % self.lengths.len() as u64) as usize;
            self.bytes_taken += u64::from(self.lengths[place]);
            self.sent_taken += 1;
        }
        if answer {
            self.ask_open = false;
        }
        self.answer_due |= ask;
        self.fin_received |= fin;
        Ok(length)
    }

    /// Returns whether both directions have ended, and the peer knows, so that this side may
    /// disconnect.
    pub(crate) fn is_finished(&self) -> bool {
        self.ends_normally()
            && self.taken == self.received
            && self.is_told()
            && !self.ask_open
            && !self.ask_wanted
    }

    /// Returns whether it is no error if the peer disconnects now.
    pub(crate) fn ends_normally(&self) -> bool {
        self.fin_sent && self.fin_received && self.all_taken()
    }
}
