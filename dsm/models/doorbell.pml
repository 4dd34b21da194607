/* Waiting at a doorbell: spinning, then asleep on a futex, without losing a wake-up. Two ringers, one sleeper; a ringer
 * may die anywhere, and is followed by a successor, who goes on with what was not published.
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
 *   -DMUTATE_TRUSTING_HEIR     a dead ringer's successor makes the system call only if the flag is set
 */

#define RINGERS 2
#define EACH 2
#define SPINS 1

byte published;
bit sleeping;      /* The futex word. */
bool is_asleep;    /* In the kernel's queue. */
bit deaths = 1;    /* That may still come. */

#define MAY_DIE :: atomic { deaths > 0 -> deaths--; goto died }

active [RINGERS] proctype ringer() {
    byte done = 0;
    bit was;
    bit seen;
    do
    :: done == EACH -> break
    :: done < EACH ->
#ifdef MUTATE_FLAG_THEN_PUBLISH
        seen = sleeping;
        atomic { published++; done++ };
#else
        atomic { published++; done++ };
        if
        :: seen = sleeping
        MAY_DIE
        fi;
#endif
        if
        :: seen == 1 ->
            /* Only the ringer that clears the flag makes the system call. */
            if
            :: atomic { was = sleeping; sleeping = 0 }
            MAY_DIE
            fi;
            if
            :: was == 1 ->
                if
                :: is_asleep = false
                MAY_DIE
                fi
            :: else
            fi
        :: else
        fi
    od;
    goto over;
died:
    /* The successor attaches, and goes on. */
#ifdef MUTATE_TRUSTING_HEIR
    atomic { was = sleeping; sleeping = 0 };
    if
    :: was == 1 -> is_asleep = false
    :: else
    fi;
#else
    sleeping = 0;
    is_asleep = false;
#endif
    do
    :: done == EACH -> break
    :: done < EACH ->
        atomic { published++; done++ };
        atomic { was = sleeping; sleeping = 0 };
        if
        :: was == 1 -> is_asleep = false
        :: else
        fi
    od;
over:
    skip
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
