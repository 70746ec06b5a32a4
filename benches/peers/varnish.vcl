# Varnish in front of the second nginx (nginx-origin.conf), which follows the redirects that it cannot follow itself.
vcl 4.1;

backend origin { .host = "127.0.0.1"; .port = "{{origin_port}}"; }

sub vcl_recv {
    set req.http.X-Client-Host = req.http.Host;
    unset req.http.Authorization;
    return (hash);
}

sub vcl_backend_response {
    set beresp.ttl = 7d;
    return (deliver);
}
