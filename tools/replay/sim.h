/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A recorded start on a link, simulated. The model:
 *
 *   - The program does what was recorded. The times between its accesses are kept; an access whose
 *     bytes are not here stands still until they are, and with it all that follows. What it waited
 *     for when it was recorded is in those times: recordings should be of starts that did not wait.
 *   - A request's first byte comes a round trip after it was made, however many requests there are.
 *     The link carries one unit (PROFILE_UNIT bytes, a file's last one less) at a time, at its
 * rate: of those whose round trip is over first what the program waits for, then what is predicted,
 *     each in the order of the requests. Nothing is compressed. What is asked for is not asked for
 *     again: an access waits for it, and it goes before what nobody waits for.
 *   - Nothing is here at the start. Nothing is fetched along with an access, and nothing in the
 *     background, so that only the prediction makes a difference. All caches are endless.
 *   - The prediction begins before the program, by the lead; the files are all looked up by then. A
 *     path of the profile that the recording does not name is there, as large as the profile needs.
 *   - Perfect is what knows all that will be read, in order: asked for at once, when the prediction
 *     would begin. No order of requests is faster on this link.
 *
 * Pure; the same arguments give the same results.
 */
#ifndef FIRSTLIGHT_TOOLS_SIM_H
#define FIRSTLIGHT_TOOLS_SIM_H

#include "predict/predictor.h"
#include "predict/recording.h"

#define SIM_UNITS_MAX 262144 /* that a recording reads, repeats too */

struct sim_link {
	uint64_t rtt_ns, rate; /* bytes a second */
	uint64_t lead_ns;
};

enum sim_mode { SIM_WITHOUT, SIM_PROFILE, SIM_PERFECT };

struct sim_result {
	uint64_t ready_ns;           /* of the program: since its start; of its last access if no
					recording says when it was ready */
	uint64_t waited_ns;          /* of that time */
	uint64_t requests, foreseen; /* of accesses; of the prediction, or of the perfect one */
	struct predict_count used;   /* read by the program, each unit once; of them: */
	struct predict_count hits, late, missed; /* here; asked for; not asked for */
	struct predict_count wasted;             /* asked for by the prediction, not read */
	struct predict_stats stats;              /* of the predictor, at the end */
};

/* profile: of SIM_PROFILE. -E2BIG: more than SIM_UNITS_MAX; -ENOMEM. */
int sim_run(const struct recording *rec, const struct profile *profile, const struct sim_link *link,
	    enum sim_mode mode, struct sim_result *ret, struct err *err) must_check;

#endif
