//! A response body of bytes that nobody admitted.
use proxy::body::ServedBody;

pub fn serve(bytes: bytes::Bytes, body: ServedBody) -> ServedBody {
    let body = ServedBody::whole(bytes.clone()); //~ FORBIDDEN private
    let body = ServedBody::from(bytes.clone()); //~ FORBIDDEN the trait bound
    let body: ServedBody = bytes.clone().into(); //~ FORBIDDEN the trait bound
    let body = ServedBody(bytes.clone()); //~ FORBIDDEN private
    drop(bytes);
    body
}
