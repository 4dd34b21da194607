/* Waiting at a doorbell: spinning, then asleep on a futex, without losing a wake-up. Two ringers, one sleeper.
 *
 * Checked: everything that was published is seen, and no sleeper is left behind (no invalid end state).
 *
 * As in dsm/core/rings/doorbell.h and the kernel: a futex wait sleeps only if the word still has the value, and that look is
 * one step with falling asleep. All accesses are sequentially consistent, there as here.
 *
 * Mutations, each of which must fail:
 *   -DMUTATE_LOOK_THEN_FLAG    the sleeper looks before it sets the flag, not after
 *   -DMUTATE_FLAG_THEN_PUBLISH the ringer looks at the flag before it publishes, not after
 *   -DMUTATE_BLIND_WAIT        the kernel does not compare the word when one falls asleep
 */

#define RINGERS 2
#define EACH 2
#define SPINS 1

byte published;
bit sleeping;      /* The futex word. */
bool is_asleep;    /* In the kernel's queue. */

inline wake() {
    /* Only the ringer that clears the flag makes the system call. */
    atomic { was = sleeping; sleeping = 0 };
    if
    :: was == 1 -> is_asleep = false
    :: else
    fi
}

active [RINGERS] proctype ringer() {
    byte i = 0;
    bit was;
    bit seen;
    do
    :: i == EACH -> break
    :: i < EACH ->
#ifdef MUTATE_FLAG_THEN_PUBLISH
        seen = sleeping;
        published++;
#else
        published++;
        seen = sleeping;
#endif
        if
        :: seen == 1 -> wake()
        :: else
        fi;
        i++
    od
}

active proctype sleeper() {
    byte taken = 0;
    byte spin;
    do
    :: taken == RINGERS * EACH -> break
    :: taken < RINGERS * EACH ->
        spin = 0;
        do
        :: published > taken -> goto came
        :: spin < SPINS -> spin++
        :: spin == SPINS -> break
        od;
again:
#ifdef MUTATE_LOOK_THEN_FLAG
        if
        :: published > taken -> goto came
        :: else
        fi;
        sleeping = 1;
#else
        sleeping = 1;
        if
        :: published > taken -> goto came
        :: else
        fi;
#endif
#ifdef MUTATE_BLIND_WAIT
        is_asleep = true;
#else
        atomic {
            if
            :: sleeping == 1 -> is_asleep = true
            :: else
            fi
        };
#endif
        !is_asleep;
        if
        :: published > taken -> skip
        :: else -> goto again
        fi;
came:
        sleeping = 0;
        taken++
    od
}
