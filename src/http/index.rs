//! Two pages of links for people.

use axum::response::Html;

pub(super) async fn root() -> Html<&'static str> {
    Html(
        "<!DOCTYPE html>\n<html><head><title>stanby</title></head><body>\n<h1>stanby</h1>\n\
         <p><a href=\"/console\">console</a></p>\n\
         <p><a href=\"/readyz\">readyz</a></p>\n\
         <p><a href=\"/healthz\">healthz</a></p>\n\
         <p><a href=\"/healthz/active\">healthz/active</a></p>\n\
         <p><a href=\"/metrics\">metrics</a></p>\n\
         <p><a href=\"/streaming\">streaming</a></p>\n\
         <p>of NATS: <a href=\"/varz\">varz</a> <a href=\"/connz\">connz</a> <a href=\"/routez\">routez</a> \
         <a href=\"/subsz\">subsz</a></p>\n\
         </body></html>\n",
    )
}

pub(super) async fn streaming() -> Html<&'static str> {
    Html(
        "<!DOCTYPE html>\n<html><head><title>stanby: streaming</title></head><body>\n<h1>Streaming</h1>\n\
         <p><a href=\"/streaming/serverz\">serverz</a></p>\n\
         <p><a href=\"/streaming/storez\">storez</a></p>\n\
         <p><a href=\"/streaming/clientsz\">clientsz</a></p>\n\
         <p><a href=\"/streaming/channelsz\">channelsz</a></p>\n\
         <p><a href=\"/streaming/isFTActive\">isFTActive</a></p>\n\
         </body></html>\n",
    )
}
