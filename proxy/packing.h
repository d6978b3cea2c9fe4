// SPDX-License-Identifier: Apache-2.0
//
// Compression on both sides of a request. Each side has its own agreement; what comes compressed is
// inflated before anybody looks at it, what goes is compressed anew.
//
//      app   == compressed ==>  READ     inflate_request          SEND     pack_request  ==> server
//            <== pack_reply     RECEIVE  inflate_reply, or hold   RECEIVE  <== compressed ==
//
// A compressed message can be looked at only when it is whole, so its memory, compressed and
// inflated, is claimed of the budget before its body is read. A side may always send uncompressed:
// so is sent what is larger than PACKING_MAX_BYTES, since a worker that compresses does nothing
// else meanwhile.

#ifndef PROXY_PACKING_H
#define PROXY_PACKING_H

#include "proxy/request.h"

#define PACKING_MAX_BYTES (1 << 20)

// READ: inflates the whole message in its place. COMPRESSED_OK, or what is wrong with it.
enum compressed_status packing_inflate_request(struct request *request)
    __attribute__((warn_unused_result));

// SEND: compresses the message if the request's upstream takes it so. Then packing_outgoing is what
// to send.
void packing_pack_request(struct request *request);
struct bytes packing_outgoing(const struct request *request);

// RECEIVE, of an upstream that may compress.
enum packing_status {
    PACKING_MORE,    // bytes are missing
    PACKING_PLAIN,   // it is not compressed: `packed` holds its beginning, as it came
    PACKING_STARVES, // the budget has no room for it
    PACKING_WHOLE,   // inflated into `held`
    PACKING_BAD,
    PACKING_OTHER_REPLY, // to something else than this request
};

// Looks at what came of a reply and is in `packed`. *ret_surplus: there is more than the reply.
enum packing_status packing_inflate_reply(struct request *request, bool *ret_surplus)
    __attribute__((warn_unused_result));

// Whether a large reply that comes uncompressed is to be held until it is whole, to be compressed.
// Asked with each part, from the first on that shows its length; a yes stays a yes.
bool packing_holds(struct request *request);

// Appends to `out` the whole reply, compressed for the app. False: it goes as it is.
bool packing_pack_reply(struct request *request, struct bytes reply, struct buffer *out);

// Frees what the functions above keep.
void packing_free(struct request *request);

static inline void packing_drop(struct request *request)
{
    if (request->packed.data || request->packing_bytes > 0) {
        packing_free(request);
    }
}

#endif
