// The page with a secret answers the POST that made it. Loading it anew shall not send that again.
"use strict";
history.replaceState(null, "", document.currentScript.dataset.next);
