// SPDX-License-Identifier: Apache-2.0
//
// By which names a browser may ask. A page from elsewhere cannot read what another site answers;
// but whoever has a name can have it lead here, and then this is that page's own site (DNS
// rebinding). An address cannot be led anywhere, and localhost is not in anybody's hands.

#ifndef PROXY_ADMIN_HOST_H
#define PROXY_ADMIN_HOST_H

#include <stdbool.h>

#include "proxy/config.h"

// `host` is what the header Host says: a name or an address, and perhaps a port. NULL, which no
// browser sends, is fine.
bool host_may_be(const char *host, const struct config *config);

#endif
