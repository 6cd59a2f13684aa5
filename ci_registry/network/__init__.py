"""The one door to HTTP: connections, time-outs, proxies, redirects and retries; nothing here knows registries."""
