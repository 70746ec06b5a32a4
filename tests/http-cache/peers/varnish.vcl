vcl 4.1;

# As the suite's authors run Varnish; how long it keeps what has no lifetime is set on its command line.
backend default {
    .host = "127.0.0.1";
    .port = "@ORIGIN@";
}
