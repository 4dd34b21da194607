/* A stream that leaves a ring while its receiver moves: the sender publishes frames, the mover freezes the receiver,
 * seals the ring, copies it and lets the receiver go on elsewhere; the rest goes by the relay.
 *
 * Checked: every message is delivered once and in order (the receiver's assertion), all are delivered in the end
 * (no invalid end state: nobody waits for ever), and a failed move loses nothing either.
 *
 * As in dsm/core/rings: a frame is published, and the ring sealed, by a compare-and-swap of the next header; the header
 * behind a frame is emptied before. The ring is made of words; every other message has a payload of one word, which
 * looks like an empty header.
 *
 * Mutations, each of which must fail:
 *   -DMUTATE_SEAL_STORE      the seal is a look and a store, no compare-and-swap
 *   -DMUTATE_SEAL_RUNNING    the ring is sealed while both ends run; only then is the receiver frozen
 *   -DMUTATE_CUT_FIRST       the image is made before the ring is sealed
 *   -DMUTATE_RELAY_AT_ONCE   the receiver takes from the relay before it has read the ring
 *   -DMUTATE_NO_CLEAR        the writer does not empty the header behind its frame
 */

#ifndef MESSAGES
#define MESSAGES 6
#endif
#define WORDS 5
#define EMPTY 0
#define SEAL 255

#define FRAME_WORDS(message) (1 + (message) % 2)

#ifdef MUTATE_RELAY_AT_ONCE
#define MAY_RELAY true
#else
#define MAY_RELAY is_seal_seen
#endif

typedef Ring {
    byte words[WORDS];
    byte head            /* Words taken. */
};
Ring ring[2];            /* Where the sender is, and the copy in the moved receiver's image. */
#define WORD(place, position) ring[place].words[(position) % WORDS]

chan relay = [MESSAGES] of { byte };
bit place;               /* Where the receiver is. */
bool is_frozen;          /* It does not run. */
bool is_seal_seen;       /* It has read the seal. */
byte delivered;

active proctype sender() {
    byte position = 0;   /* Of the next frame. */
    byte number = 1;
    bool is_sealed = false;
    do
    :: number > MESSAGES -> break
    :: number <= MESSAGES && is_sealed -> relay!number; number++
    :: number <= MESSAGES && !is_sealed ->
        /* Room for the frame and the header behind it; or a seal in our place. */
        (position + FRAME_WORDS(number) + 1 - ring[0].head <= WORDS || WORD(0, position) == SEAL);
        if
        :: position + FRAME_WORDS(number) + 1 - ring[0].head <= WORDS ->
            if
            :: FRAME_WORDS(number) == 2 -> WORD(0, position + 1) = EMPTY /* The payload. */
            :: else
            fi;
#ifndef MUTATE_NO_CLEAR
            WORD(0, position + FRAME_WORDS(number)) = EMPTY;
#endif
            if
            :: atomic { WORD(0, position) == EMPTY -> WORD(0, position) = number };
                position = position + FRAME_WORDS(number);
                number++
            :: atomic { WORD(0, position) != EMPTY -> assert(WORD(0, position) == SEAL) };
                is_sealed = true
            fi
        :: else -> is_sealed = true
        fi
    od
}

#define DELIVER(message) assert((message) == delivered + 1); delivered++

active proctype receiver() {
    byte word;
    byte message;
    do
    :: delivered == MESSAGES -> break
    :: atomic { delivered < MESSAGES && !is_frozen && !is_seal_seen ->
            word = WORD(place, ring[place].head)
        };
        if
        :: word == EMPTY ->
            /* Wait for it (doorbell.pml), or for what else there is. */
            (WORD(place, ring[place].head) != EMPTY || (MAY_RELAY && nempty(relay)))
        :: word == SEAL -> is_seal_seen = true
        :: else ->
            /* Frozen in between, it goes on in between. */
            atomic { !is_frozen -> DELIVER(word) };
            atomic { !is_frozen -> ring[place].head = ring[place].head + FRAME_WORDS(word) }
        fi
    :: atomic { delivered < MESSAGES && !is_frozen && MAY_RELAY && nempty(relay) ->
            relay?message; DELIVER(message)
        }
    od
}

inline cut() {
    ring[1].head = ring[0].head;
    i = 0;
    do
    :: i < WORDS -> ring[1].words[i] = ring[0].words[i]; i++
    :: else -> break
    od
}

active proctype mover() {
    byte position;
    byte word;
    byte i;
    if
    :: skip           /* Nobody moves. */
    :: true ->
#ifndef MUTATE_SEAL_RUNNING
        is_frozen = true;
#endif
#ifdef MUTATE_CUT_FIRST
        cut();
#endif
        position = ring[0].head;
        do
#ifdef MUTATE_SEAL_STORE
        :: WORD(0, position) == EMPTY -> WORD(0, position) = SEAL; break
#else
        :: atomic { WORD(0, position) == EMPTY -> WORD(0, position) = SEAL }; break
#endif
        :: atomic { WORD(0, position) != EMPTY -> word = WORD(0, position) };
            position = position + FRAME_WORDS(word)
        od;
        is_frozen = true;
        if
        :: true ->    /* Committed: it goes on at the target, with a copy of the ring. */
#ifndef MUTATE_CUT_FIRST
            cut();
#endif
            place = 1
        :: true       /* Refused: at the source, with the sealed ring. */
        fi;
        is_frozen = false
    fi
}
